"""Programs called in turn with the reference, on the same fresh inputs, until their times are known or they fail.

Invariants: all calls are checked and counted alike, so a program cannot tell which count; a speed-up is the median over
rounds of the reference's time over the program's in the same round, since under load a smallest time is a lucky one;
what a program reports is never asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from numpy.typing import NDArray

from sia_flow.canonical import derive_seed
from sia_flow.errors import InfrastructureError
from sia_flow.protocols import Bench, Job, Outcome, TimedCall
from sia_flow.verify.timed import Fault, TimedCase, TimedPlan, TimedVerifier, Timing

PATIENCE = 0.3
"""Seconds of timed calls after which a program has enough of them: one that takes long is measured well by few."""
LEAST = 5
"""Rounds that every program gets."""
SLEEP = 0.1
"""Seconds of idleness in one call that count as sleeping."""
NAPS, NAPPING = 2, 0.5
"""Calls with that much, and their share of all, from which on a program sleeps; fewer may be the machine's: with ten
processes for each processor the host is 20 ms late to see the end of a call in the median, and 100 ms in one of fifty.
"""


@dataclass(slots=True)
class Runner:
    """One program of a race: its number on the bench, and what has been seen of it."""

    number: int
    calls: int = 0
    naps: int = 0
    fault: Fault | Outcome | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Case -> seconds of its timed calls, in the order of the rounds."""

    @property
    def spent(self) -> float:
        """Seconds of all timed calls."""
        return sum(map(sum, self.seconds.values()))


class Race:
    """A reference and some programs on one bench. Raises InfrastructureError where the reference itself fails."""

    def __init__(self, bench: Bench, verifier: TimedVerifier, plan: TimedPlan, seed: int) -> None:
        self._bench = bench
        self._verifier = verifier
        self._plan = plan
        self._seed = seed
        self._forms = [case.form for case in (*plan.checks, *plan.timed)]

    def run(self, reference: Job, jobs: Mapping[str, Job]) -> dict[str, tuple[Timing, ...] | Fault | Outcome]:
        """Return the times of every program that was right throughout, and what was wrong with the others."""
        leader = Runner(self._bench.start(reference, self._forms))
        runners = {key: Runner(self._bench.start(job, self._forms)) for key, job in jobs.items()}
        for form, case in enumerate(self._plan.checks):
            self._round(form, case, "check", leader, _sound(runners.values()))
        for repeat in range(self._plan.repeats):
            left = [r for r in _sound(runners.values()) if repeat < LEAST or r.spent < PATIENCE]
            for form, case in enumerate(self._plan.timed, len(self._plan.checks)):
                self._round(form, case, repeat, leader, [r for r in left if r.fault is None])
        for runner in (leader, *runners.values()):
            self._bench.drop(runner.number)
        return {key: r.fault or _timings(self._plan.timed, leader, r) for key, r in runners.items()}

    def _round(self, form: int, case: TimedCase, repeat: int | str, leader: Runner, runners: Sequence[Runner]) -> None:
        """Call the reference, then every runner, on one draw of inputs."""
        if not runners:
            return
        inputs = self._verifier.inputs(case, derive_seed(self._seed, case.name, repeat))
        expected = self._bench.call(leader.number, form, inputs)
        if isinstance(expected, Outcome):
            raise InfrastructureError(f"the reference program failed: {expected.status}: {expected.error}")
        timed = isinstance(repeat, int)
        _note(leader, case, expected, timed=timed)
        for runner in runners:
            found = self._bench.call(runner.number, form, inputs)
            if isinstance(found, Outcome):
                runner.fault = found
                continue
            _note(runner, case, found, timed=timed)
            runner.fault = self._fault(runner, found, expected.output)

    def _fault(self, runner: Runner, call: TimedCall, expected: NDArray[Any]) -> Fault | None:
        if call.helpers:
            return Fault("helpers", f"{call.helpers} threads or processes beside the program's own; it may have none")
        if runner.naps >= max(NAPS, NAPPING * (runner.calls - 1)):
            return Fault("sleeps", f"it slept in {runner.naps} of {runner.calls} calls; a program computes or ends")
        fault = self._verifier.fault(call.output, expected)
        if fault is None or fault.reason != "wrong" or runner.calls == 1:
            return fault
        before = f"right on {runner.calls - 1} calls, wrong on call {runner.calls}"
        return Fault("wrong_later", f"{before}: {fault.feedback}")


def _note(runner: Runner, case: TimedCase, call: TimedCall, *, timed: bool) -> None:
    runner.calls += 1
    # The first call compiles, and may wait for files.
    runner.naps += runner.calls > 1 and call.idle > SLEEP
    if timed:
        runner.seconds.setdefault(case.name, []).append(call.cpu)


def _sound(runners: Iterable[Runner]) -> list[Runner]:
    return [runner for runner in runners if runner.fault is None]


def _timings(cases: Sequence[TimedCase], leader: Runner, runner: Runner) -> tuple[Timing, ...]:
    found = []
    for case in cases:
        mine = runner.seconds[case.name]
        theirs = leader.seconds[case.name]
        # The kernel's account may stand still over a call that is far shorter than any that is worth timing.
        ratios = [there / here for there, here in zip(theirs, mine, strict=False) if here > 0 and there > 0]
        if 2 * len(ratios) < len(mine):
            raise InfrastructureError(f"the kernel charged nothing for half of the calls on {case.name}")
        found.append(Timing(case.name, median(mine), median(ratios)))
    return tuple(found)
