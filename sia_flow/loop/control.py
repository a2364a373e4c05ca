"""The control `best-of-n`: the first scaffold on the bare base, rolled out for as much as the dearest arm spent.

Invariant: rollouts come in chunks with seeds of their own, so a larger n extends what was drawn before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sia_flow.lineage.records import Spend
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.equal import dearest_spend, dollars, policy_rate
from sia_flow.loop.evaluate import Agent, Evaluation, Sample, as_pairs, evaluate, rank_programs, top_programs
from sia_flow.loop.finish import FINALISTS, Ending, close_arm
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Runner
from sia_flow.spec.models import ExperimentSpec

CHUNK = 512


def equal_draws(spec: ExperimentSpec, store: Store, results: Sequence[ArmResult]) -> int:
    """Return how many rollouts of the first scaffold cost as much as the dearest arm, in rollouts, tokens and dollars.

    A scaffold may sample many completions in one rollout; counted by rollouts alone it would look cheap. Dollars count
    where the policy has a price: what the agents of an arm cost then buys draws.
    """
    if not results:
        return 0
    first = store.generation(results[0].generations[0]).spend
    return draws_for(spec, first, [result.spend for result in results])


def draws_for(spec: ExperimentSpec, first: Spend, spends: Sequence[Spend]) -> int:
    """Return how many rollouts cost as much as the dearest of `spends`; `first` is what generation 0 spent."""
    count = max(1, first.rollouts)
    each = max(1.0, first.completion_tokens / count)
    target, rate = dearest_spend(spec, spends), policy_rate(spec)
    draws = max(target.rollouts, round(target.tokens / each))
    usd = dollars(first.model_copy(update={"usd": 0.0}), rate) / count
    return max(draws, math.ceil(target.usd / usd)) if usd else draws


def chunks_for(spec: ExperimentSpec, rollouts: int) -> int:
    """Return how many chunks of rollouts are needed to spend at least `rollouts`."""
    return max(1, -(-rollouts // _chunk_size(spec)))


def draw(lab: Lab, run: Runner, scaffold: str, seed: int, chunk: int, label: str) -> Evaluation:
    """Roll the first scaffold out on the bare base for one chunk, and verify."""
    instances = lab.spec.rollouts.instances
    sample = Sample("train", instances, _chunk_size(lab.spec) // instances, f"best-of-n {chunk}")
    return evaluate(lab, run, Agent(scaffold, None), sample, seed, label)


def best_of_n(lab: Lab, run: Runner, state: ArmState, rollouts: int, key: str) -> ArmResult:
    """Draw, keep the best program on train, measure it on select and sealed."""
    assert state.incumbent is not None
    scaffold, name = state.incumbent.scaffold, f"{state.arm.name} seed {state.seed}"
    count = chunks_for(lab.spec, rollouts)
    spend, drawn = Spend(), list[tuple[str, float]]()
    for chunk in range(count):
        found = draw(lab, run, scaffold, state.seed, chunk, f"{name} chunk {chunk + 1} of {count}")
        spend += found.spend
        if lab.task.manifest.answer.type == "program":
            drawn += as_pairs(top_programs(found.trajectories(lab), found.verdicts(lab), FINALISTS))
    finalists = [str(entry["program"]) for entry in rank_programs(drawn, FINALISTS)]
    stopped = f"{count * _chunk_size(lab.spec)} rollouts drawn"
    return close_arm(lab, run, state, Ending(key, stopped, finalists, spend))


def _chunk_size(spec: ExperimentSpec) -> int:
    """Return the rollouts of a chunk, as many on each instance."""
    instances = spec.rollouts.instances
    return max(1, CHUNK // instances) * instances
