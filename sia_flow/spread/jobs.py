"""Which arm and seed is run next, when several are under way at once.

Invariant: every arm and seed is handed out once, unless it comes back unfinished; one that spends as much as the
dearest arm of its seed waits for those that have a budget of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sia_flow.spec.arms import Arm, run_order


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
        self.order = [Job(arm.name, seed) for seed in seeds for arm in run_order(arms)]
        """All jobs, as one process would run them."""
        self.results: dict[Job, str] = {}
        self._leading = {arm.name for arm in arms if arm.turn == 0}
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
        """Return the keys of the results of the jobs before it."""
        return [self.results[other] for other in self.before(job)]

    def before(self, job: Job) -> list[Job]:
        """Return the jobs whose spend a job has to reach, in the order of the arms; else none."""
        if job.arm in self._leading:
            return []
        return [other for other in self.order if other.seed == job.seed and other.arm in self._leading]

    def _may_begin(self, job: Job) -> bool:
        return all(other in self.results for other in self.before(job))
