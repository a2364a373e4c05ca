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
from sia_flow.loop.equal import dearest, dollars, policy_rate
from sia_flow.loop.evaluate import Agent, Sample, as_pairs, evaluate, rank_programs, top_programs
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
    count = max(1, first.rollouts)
    each = max(1.0, first.completion_tokens / count)
    target, rate = dearest(spec, results), policy_rate(spec)
    draws = max(target.rollouts, round(target.tokens / each))
    usd = dollars(first.model_copy(update={"usd": 0.0}), rate) / count
    return max(draws, math.ceil(target.usd / usd)) if usd else draws


def chunks_for(lab: Lab, rollouts: int) -> int:
    """Return how many chunks of rollouts are needed to spend at least `rollouts`."""
    size = max(1, CHUNK // lab.spec.rollouts.instances) * lab.spec.rollouts.instances
    return max(1, -(-rollouts // size))


def best_of_n(lab: Lab, run: Runner, state: ArmState, rollouts: int, key: str) -> ArmResult:
    """Draw, keep the best program on train, measure it on select and sealed."""
    assert state.incumbent is not None
    agent = Agent(state.incumbent.scaffold, None)
    samples = max(1, CHUNK // lab.spec.rollouts.instances)
    count = chunks_for(lab, rollouts)
    spend, drawn = Spend(), list[tuple[str, float]]()
    for chunk in range(count):
        sample = Sample("train", lab.spec.rollouts.instances, samples, f"best-of-n {chunk}")
        label = f"{state.arm.name} seed {state.seed} chunk {chunk + 1} of {count}"
        found = evaluate(lab, run, agent, sample, state.seed, label)
        spend += found.spend
        if lab.task.manifest.answer.type == "program":
            drawn += as_pairs(top_programs(found.trajectories(lab), found.verdicts(lab), FINALISTS))
    finalists = [str(entry["program"]) for entry in rank_programs(drawn, FINALISTS)]
    stopped = f"{count * samples * lab.spec.rollouts.instances} rollouts drawn"
    return close_arm(lab, run, state, Ending(key, stopped, finalists, spend))
