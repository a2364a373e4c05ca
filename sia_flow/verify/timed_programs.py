"""Scores timed programs: the programs of a batch race the reference in small fields.

Invariant: a program is measured once an instance and its verdict is kept for good, in the memo and on disk; whoever
asks again, after a kill, in another arm or process, in a later run, gets the verdict that was recorded. One process at
a time measures, so that no two are in each other's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import cast

from sia_flow.canonical import derive_seed
from sia_flow.errors import InfrastructureError
from sia_flow.files import write_atomic
from sia_flow.lineage.claims import claimed
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import Instance, Job, Limits, Outcome, Sandbox, Session
from sia_flow.verify.apart.faults import FAULTS
from sia_flow.verify.programs import REASONS, ProgramScorer
from sia_flow.verify.race import Race
from sia_flow.verify.task import Task
from sia_flow.verify.timed import Fault, TimedPlan, TimedVerifier, Timing

PATIENCE = 12
"""How many times the wall time of other programs one call may take."""
FIELD = 24
"""Programs that share one reference's calls; most fall out at the checks."""

Found = tuple[Timing, ...] | Fault | Outcome


class TimedScorer(ProgramScorer):
    """Scores programs by time; `kept` is the folder where verdicts stay (None: in memory alone)."""

    def __init__(
        self,
        task: Task,
        verifier: TimedVerifier,
        sandbox: Sandbox,
        limits: Limits | None = None,
        memo: Mapping[str, Verdict] | None = None,
        kept: Path | None = None,
    ) -> None:
        limits = limits or Limits()
        # What a loaded machine does to the wall clock says nothing of a program; its processor time is limited as is.
        limits = replace(limits, wall=PATIENCE * limits.wall)
        super().__init__(task, verifier, sandbox, limits, workers=1, memo=memo)
        self._timed = verifier
        self._kept = kept

    def _run(self, instance: Instance, programs: Mapping[str, str]) -> dict[str, Verdict]:
        if self._kept is None or all(self._recall(key) for key in programs):
            return self._run_alone(instance, programs)
        with claimed(self._kept, "measuring"):
            return self._run_alone(instance, programs)

    def _run_alone(self, instance: Instance, programs: Mapping[str, str]) -> dict[str, Verdict]:
        verdicts = {key: known for key in programs if (known := self._recall(key)) is not None}
        fresh = {key: text for key, text in programs.items() if key not in verdicts}
        refused = {key: fault for key, text in fresh.items() if (fault := self._refuse(text)) is not None}
        runnable = [key for key in fresh if key not in refused]
        for keys in (runnable[start : start + FIELD] for start in range(0, len(runnable), FIELD)):
            measured = self._measure(instance, {key: fresh[key] for key in keys})
            self.verifications += len(measured)
            for key, verdict in measured.items():
                self._keep(key, verdict)
            verdicts |= measured
        return verdicts | refused

    def _measure(self, instance: Instance, programs: Mapping[str, str]) -> dict[str, Verdict]:
        plan = self._timed.plan(instance)
        runs: list[dict[str, Found]] = []
        left = dict(programs)
        for session in range(plan.sessions):
            # A program cannot hold its own digest, so it cannot hold the inputs that are drawn by it.
            seed = derive_seed("race", instance.id, session, sorted(programs))
            runs.append(self._race(instance, plan, left, seed))
            left = {key: text for key, text in left.items() if not isinstance(runs[-1][key], Fault | Outcome)}
        return {key: self._judged([run[key] for run in runs if key in run]) for key in programs}

    def _race(self, instance: Instance, plan: TimedPlan, programs: Mapping[str, str], seed: int) -> dict[str, Found]:
        if not programs:
            return {}
        jobs = {key: self._timed_job(text) for key, text in programs.items()}
        try:
            with self._session(instance).bench(self._limits) as bench:
                return Race(bench, self._timed, plan, seed).run(self._timed_job(self._timed.reference()), jobs)
        except InfrastructureError:
            self.close()
            raise

    def _judged(self, runs: Sequence[Found]) -> Verdict:
        """Return the verdict of a program's sessions: its failure, or the median of each case's speed-ups."""
        last = runs[-1]
        if isinstance(last, Fault):
            return self._failure(last.reason, last.feedback)
        if isinstance(last, Outcome):
            return self._failure(REASONS[last.status], last.error)
        sessions = cast("Sequence[tuple[Timing, ...]]", runs)
        return self._timed.verdict([_middle(timings) for timings in zip(*sessions, strict=True)])

    def _timed_job(self, program: str) -> Job:
        return Job(source=program, entry=self.task.manifest.answer.entry)

    def _session(self, instance: Instance) -> Session:
        """Return the one session: its image holds no arrays, so that all instances share it."""
        del instance
        if not self._sessions:
            self._sessions["timed"] = self._sandbox.open(self.task.image([]), self._workers)
        return self._sessions["timed"]

    def _recall(self, key: str) -> Verdict | None:
        if self._kept is None or not (file := self._kept / f"{key}.json").is_file():
            return None
        return Verdict.model_validate_json(file.read_bytes())

    def _keep(self, key: str, verdict: Verdict) -> None:
        if self._kept is not None and verdict.reason not in FAULTS:
            write_atomic(self._kept / f"{key}.json", verdict.model_dump_json().encode(), sync=False)


def _middle(timings: Sequence[Timing]) -> Timing:
    return Timing(timings[0].case, median(t.seconds for t in timings), median(t.speedup for t in timings))
