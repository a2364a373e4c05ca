"""What an experiment will do and cost, before it does: a replay of the records up to the first step that is missing.

Invariant: planning runs no step and starts no server; an experiment whose every step has a record is found so from
the records alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
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
from sia_flow.plan.rates import Range, Rate, Rates, rates_of
from sia_flow.spec.arms import run_order

Improve = Callable[..., ArmResult]
"""Of a lab, a runner and the state of an arm, then deadline and target where there are such."""


class Missing(Exception):  # noqa: N818 - an answer, not a fault
    """The replay came to something that has no record yet; its text is the label."""


FREE = Range(0.0, 0.0)
FREE_RATE = Rate(FREE, FREE)
WAITS = "waits for the other arms"
"""What comes next for an arm that spends as much as others do."""


class Ahead(NamedTuple):
    """Rollouts still to run."""

    trials: Range
    """Of train, select and sealed, and of the harness lever's trials."""
    updates: Range
    """Of the weight lever, and of what never leaves the first scaffold."""

    @property
    def all(self) -> Range:
        """Both kinds."""
        return self.trials + self.updates


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
    # Reads every generation of the store, so only where something is left to run.
    rates = cache(lambda: rates_of(lab.store, lab.inputs))
    for seed in lab.spec.seeds:
        leading: list[ArmResult] = []
        full = True
        for arm in run_order(lab.spec.arms):
            state, replay = ArmState(arm, seed), _Replay()
            body = _body(lab, state, replay, improve, control, leading)
            plan = _plan(lab, state, replay, body, rates, needs_others=arm.turn > 0 and not full)
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


def _plan(
    lab: Lab,
    state: ArmState,
    replay: _Replay,
    body: Callable[[], ArmResult],
    rates: Callable[[], Rates],
    *,
    needs_others: bool,
) -> ArmPlan:
    result, following = None, ""
    if needs_others:
        following = WAITS
    else:
        try:
            result = body()
        except Missing as missing:
            following = str(missing)
    ahead = Ahead(FREE, FREE) if result else _ahead(lab, state)
    trial, update = (FREE_RATE, FREE_RATE) if result else rates()
    return ArmPlan(
        arm=state.arm.name,
        seed=state.seed,
        result=result,
        cached=len(replay.keys),
        history=result.generations if result else tuple(g.id for g in state.history),
        next=following,
        rollouts=ahead.all,
        tokens=ahead.trials.times(trial.tokens) + ahead.updates.times(update.tokens),
        seconds=ahead.trials.times(trial.seconds) + ahead.updates.times(update.seconds),
        usd=FREE if result else Range(*agents_bill(lab, state)),
    )


def _ahead(lab: Lab, state: ArmState) -> Ahead:
    """Rollouts still to run: per generation the train and select samples, and what its lever takes.

    An arm that spends as much as the dearest other takes at most what that one may, and one generation more.
    """
    spec, levers = lab.spec, state.arm.levers
    if state.arm.spend == "dearest":
        others = [_ahead(lab, ArmState(arm, state.seed)).all.high for arm in spec.arms if arm.turn == 0]
        most = max(0, max(others, default=0.0) * (1 + 1 / spec.budget.generations) - state.spend.rollouts)
        return Ahead(FREE, Range(0, most)) if levers == ("weights",) else Ahead(Range(0, most), FREE)
    train = spec.rollouts.instances * spec.rollouts.samples
    each = train + spec.verify.select.instances * spec.verify.select.samples
    closing = spec.verify.sealed.instances * spec.verify.sealed.samples
    wanted = 1 if state.arm.control == "unaided" else spec.budget.generations
    left = max(0, wanted + 1 - len(state.history))
    pulls = max(0, left - 1)
    update = spec.training.iterations * spec.training.instances * spec.training.samples
    sample = trial_sample(lab)
    trial = spec.search.trials * sample.instances * sample.samples
    always = each * left + closing
    if state.arm.control == "best-of-n":
        weights = any("weights" in arm.levers for arm in spec.arms)
        return Ahead(FREE, Range(always, always + (update * max(1, left // 2) if weights else trial * left)))
    if levers == ("weights",):
        return Ahead(FREE, Range(always + update * (left > 1), always + update * pulls))
    if "weights" not in levers:
        return Ahead(Range(always, always + trial * ("harness" in levers) * pulls), FREE)
    # Either lever each time, or both.
    both = trial if spec.search.interleave is not None else 0
    return Ahead(Range(always, always + both * pulls), Range(0, max(update, 0 if both else trial) * pulls))
