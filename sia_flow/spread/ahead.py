"""What a worker that would wait draws of a control `best-of-n` before, or while, somebody works on it.

Invariants: no chunk is drawn that the control will not need, since what is known of the dearest arm's spend only grows;
the control itself draws whatever was not, so that nothing depends on what happens here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sia_flow.lineage.records import Generation, Spend
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.control import chunks_for, draws_for
from sia_flow.spec.models import ExperimentSpec
from sia_flow.spread.jobs import Job, Jobs


class Ahead:
    """Hands out the chunks that are certain to be needed, each once."""

    def __init__(self, spec: ExperimentSpec, store: Store, jobs: Jobs) -> None:
        self._spec = spec
        self._store = store
        self._jobs = jobs
        controls = {arm.name for arm in spec.arms if arm.control == "best-of-n"}
        self._controls = [job for job in jobs.order if job.arm in controls]
        self._first: dict[int, Generation] = {}
        self._spent: dict[Job, Spend] = defaultdict(Spend)
        self._front: dict[Job, int] = defaultdict(int)
        self._back: dict[Job, int] = {}

    def heard(self, job: Job, generation: Generation) -> None:
        """Take in a generation of an arm that somebody works on."""
        if generation.index == 0:
            self._first[job.seed] = generation
            # Whoever takes an unfinished job up tells of all its generations again.
            self._spent[job] = Spend()
        self._spent[job] += generation.spend

    def next(self) -> Mapping[str, Any] | None:
        """Return the order to draw a chunk; None where none is known to be needed."""
        for job in self._controls:
            results = self._results(job)
            first = self._generation_0(job.seed, results)
            if first is None or job in self._jobs.results:
                continue
            chunk = self._chunk(job, first.spend, results)
            if chunk is not None:
                return {"draw": list(job), "scaffold": first.scaffold, "chunk": chunk}
        return None

    def stop(self) -> None:
        """Hand out no more: a draw failed, and whoever needs it is to say why."""
        self._controls.clear()

    def _results(self, job: Job) -> list[ArmResult]:
        """Return what is finished of the arms that a control spends as much as."""
        keys = [self._jobs.results[other] for other in self._jobs.before(job) if other in self._jobs.results]
        return [result for key in keys if (result := self._store.arm(key)) is not None]

    def _generation_0(self, seed: int, results: Sequence[ArmResult]) -> Generation | None:
        """Return the first generation of a seed, where it is known yet: all arms share it."""
        if seed not in self._first and results:
            self._first[seed] = self._store.generation(results[0].generations[0])
        return self._first.get(seed)

    def _chunk(self, job: Job, first: Spend, results: Sequence[ArmResult]) -> int | None:
        others = self._jobs.before(job)
        spends = [*(result.spend for result in results), *(self._spent[other] for other in others)]
        count = chunks_for(self._spec, draws_for(self._spec, first, spends))
        if len(results) == len(others):
            # The control is under way, from the first chunk on: it is met from the last one.
            last = self._back.get(job, count) - 1
            if last < self._front[job]:
                return None
            self._back[job] = last
            return last
        if self._front[job] >= count:
            return None
        self._front[job] += 1
        return self._front[job] - 1
