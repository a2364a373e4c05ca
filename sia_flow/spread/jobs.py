"""Which arm and seed is run next, when several are under way at once.

Invariant: every arm and seed is handed out once, unless it comes back unfinished; a control that draws as much as the
dearest arm of its seed waits for all the others of that seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sia_flow.spec.models import Arm


class Job(NamedTuple):
    """One arm and seed."""

    arm: str
    seed: int

    def __str__(self) -> str:
        """Return its name, as people read it."""
        return f"{self.arm} seed {self.seed}"


class Jobs:
    """What is to be run, what is under way, and the keys of the results of what is done."""

    def __init__(self, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
        self.order = [Job(arm.name, seed) for seed in seeds for arm in _controls_last(arms)]
        """All jobs, as one process would run them."""
        self.results: dict[Job, str] = {}
        self._last = {arm.name for arm in arms if arm.control == "best-of-n"}
        self._left = list(self.order)
        self._running: list[Job] = []

    @property
    def over(self) -> bool:
        """Whether every job is done."""
        return not self._left and not self._running

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._running

    def next(self) -> Job | None:
        """Hand out a job, None while there is none that can begin.

        One of a seed that nobody works on comes first: the arms of a seed share their first generation.
        """
        free = [job for job in self._left if self._may_begin(job)]
        if not free:
            return None
        busy = [job.seed for job in self._running]
        chosen = min(free, key=lambda job: busy.count(job.seed))
        self._left.remove(chosen)
        self._running.append(chosen)
        return chosen

    def done(self, job: Job, result: str) -> None:
        """Take in the key of a job's result."""
        self._running.remove(job)
        self.results[job] = result

    def back(self, job: Job) -> None:
        """Take back a job that was not finished: it is the next one."""
        self._running.remove(job)
        self._left.insert(0, job)

    def others(self, job: Job) -> list[str]:
        """Return the keys of the results that a control is measured by, in the order of the arms; else none."""
        if job.arm not in self._last:
            return []
        return [self.results[other] for other in self._before(job)]

    def _may_begin(self, job: Job) -> bool:
        return job.arm not in self._last or all(other in self.results for other in self._before(job))

    def _before(self, job: Job) -> list[Job]:
        """Return the jobs whose results one process would have had before a control, other controls among them."""
        same = [other for other in self.order if other.seed == job.seed]
        return same[: same.index(job)]


def _controls_last(arms: Sequence[Arm]) -> list[Arm]:
    return sorted(arms, key=lambda arm: arm.control == "best-of-n")
