"""What an experiment will do and cost, before it does: a replay of the records up to the first step that is missing.

Invariant: planning runs no step and starts no server; an experiment whose every step has a record is found so from
the records alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import StepRecord, Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.control import equal_draws
from sia_flow.loop.decide import trial_sample
from sia_flow.loop.equal import dearest
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared, Runner
from sia_flow.plan.bill import agents_bill
from sia_flow.spec.arms import run_order

ROLLOUT_SECONDS = (0.01, 0.09)
"""Wall seconds of a rollout with its verification on 2 shared cores, on the embedded denoise: one completion a rollout,
and the mean of an arm whose scaffold scores several candidates on visible counts."""
TOKENS = (15, 150)
"""Prompt and completion tokens of a rollout of the tiny policy there: one completion, and several with an exemplar."""

Improve = Callable[..., ArmResult]
"""Of a lab, a runner and the state of an arm, then deadline and target where there are such."""


class Missing(Exception):  # noqa: N818 - an answer, not a fault
    """The replay came to something that has no record yet; its text is the label."""


class Range(NamedTuple):
    """A low and a high estimate."""

    low: float
    high: float

    def __add__(self, other: tuple[float, ...]) -> Range:  # type: ignore[override]  # sums, does not concatenate
        """Return the sum of two ranges."""
        return Range(self.low + other[0], self.high + other[1])


FREE = Range(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm and seed: what is there, what comes next, what it may cost."""

    arm: str
    seed: int
    result: ArmResult | None
    """Its stored result when there is nothing left to do."""
    cached: int
    """Steps with a record."""
    history: tuple[str, ...]
    """Ids of the generations with a record, in order."""
    next: str
    """Label of the first step without a record; empty when done."""
    rollouts: Range
    tokens: Range
    seconds: Range
    usd: Range = FREE

    @property
    def generations(self) -> int:
        """How many generations have a record."""
        return len(self.history)


class _Replay:
    """A runner that finds records and runs nothing."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def __call__(self, lab: Lab, prepared: Prepared) -> StepRecord:
        record = lab.store.find(prepared.step.key)
        if record is None:
            raise Missing(prepared.label)
        self.keys.add(record.key)
        return record


class ReplayStore(Store):
    """A store for planning: an arm that only its result is missing of is not closed behind its watchers' back."""

    rehearsal = True

    def put_arm(self, result: ArmResult) -> None:
        """Refuse. Raises Missing."""
        raise Missing(f"{result.arm} seed {result.seed} result")


def forecast(lab: Lab, improve: Improve, control: Callable[[Lab, Runner, ArmState, int], ArmResult]) -> list[ArmPlan]:
    """Return a plan for each arm and seed, in the order in which they run; the lab's store is a ReplayStore."""
    plans: list[ArmPlan] = []
    for seed in lab.spec.seeds:
        leading: list[ArmResult] = []
        full = True
        for arm in run_order(lab.spec.arms):
            state, replay = ArmState(arm, seed), _Replay()
            body = _body(lab, state, replay, improve, control, leading)
            plan = _plan(lab, state, replay, body, needs_others=arm.turn > 0 and not full)
            if arm.turn == 0:
                full = full and plan.result is not None
                leading += [plan.result] if plan.result else []
            plans.append(plan)
    return plans


def _body(
    lab: Lab,
    state: ArmState,
    replay: _Replay,
    improve: Improve,
    control: Callable[[Lab, Runner, ArmState, int], ArmResult],
    leading: Sequence[ArmResult],
) -> Callable[[], ArmResult]:
    if state.arm.control == "best-of-n":
        rollouts = equal_draws(lab.spec, lab.store, leading)
        return lambda: control(lab, replay, state, rollouts)
    target = dearest(lab.spec, leading) if state.arm.spend == "dearest" else None
    return lambda: improve(lab, replay, state, None, target)


def _plan(lab: Lab, state: ArmState, replay: _Replay, body: Callable[[], ArmResult], *, needs_others: bool) -> ArmPlan:
    result, following = None, ""
    if needs_others:
        following = "waits for the other arms"
    else:
        try:
            result = body()
        except Missing as missing:
            following = str(missing)
    rollouts = Range(0, 0) if result else _rollouts(lab, state)
    return ArmPlan(
        arm=state.arm.name,
        seed=state.seed,
        result=result,
        cached=len(replay.keys),
        history=result.generations if result else tuple(g.id for g in state.history),
        next=following,
        rollouts=rollouts,
        tokens=Range(rollouts.low * TOKENS[0], rollouts.high * TOKENS[1]),
        seconds=Range(rollouts.low * ROLLOUT_SECONDS[0], rollouts.high * ROLLOUT_SECONDS[1]),
        usd=FREE if result else Range(*agents_bill(lab, state)),
    )


def _rollouts(lab: Lab, state: ArmState) -> Range:
    """Rollouts still to run: per generation the train and select samples, and what its lever takes.

    An arm that spends as much as the dearest other takes at most what that one may, and one generation more.
    """
    spec = lab.spec
    if state.arm.spend == "dearest":
        others = [_rollouts(lab, ArmState(arm, state.seed)) for arm in spec.arms if arm.turn == 0]
        whole = max((other.high for other in others), default=0.0)
        return Range(0, max(0, whole * (1 + 1 / spec.budget.generations) - state.spend.rollouts))
    train = spec.rollouts.instances * spec.rollouts.samples
    each = train + spec.verify.select.instances * spec.verify.select.samples
    closing = spec.verify.sealed.instances * spec.verify.sealed.samples
    wanted = 1 if state.arm.control == "unaided" else spec.budget.generations
    left = max(0, wanted + 1 - len(state.history))
    pull = spec.training.iterations * spec.training.instances * spec.training.samples
    sample = trial_sample(lab)
    trials = spec.search.trials * sample.instances * sample.samples
    levers = state.arm.levers
    low = each * left + closing
    if state.arm.control == "best-of-n":
        weights = any("weights" in arm.levers for arm in spec.arms)
        return Range(low, low + (pull * max(1, left // 2) if weights else trials * left))
    dear = max(pull * ("weights" in levers), trials * ("harness" in levers))
    if spec.search.interleave is not None and len(levers) == 2:
        dear = pull + trials
    cheap = pull if levers == ("weights",) else 0
    return Range(low + cheap * (left > 1), low + dear * max(0, left - 1))
