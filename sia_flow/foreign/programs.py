"""Verifiers of tasks whose answer is a program that the foreign evaluator runs itself (OpenEvolve, ShinkaEvolve).

Their contract puts candidate and evaluator into one process, so a candidate that wants to can forge its score there;
`sia-flow task check` shows it. The process is the sandbox's, so nothing else can be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import ClassVar, Literal

from sia_flow.canonical import derive_seed
from sia_flow.foreign.base import ForeignVerifier, make_instance
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import Instance

MEAN = "mean"


class EvaluatorVerifier(ForeignVerifier):
    """Scores a program's text by `evaluate(program_path)` or by `evaluate.py`, as `kind` says."""

    kind: ClassVar[Literal["openevolve", "shinka"]] = "openevolve"
    metric = "combined_score"

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` runs of the one objective: such a task has no data to divide."""
        public = {"task": self._meta["name"], "program": self._meta["program"]}
        return tuple(make_instance(f"{self._meta['name']}/{split}/{seed}/{i}", split, public) for i in range(count))

    def visible(self, instance: Instance) -> Instance:
        """Return the instance again: the objective is no secret."""
        return make_instance(f"{instance.id}/visible", instance.split, instance.public)

    def score_text(self, instance: Instance, answer: str) -> Verdict:
        """Run the evaluator on a program's text."""
        if not answer.strip():
            return self.failure("no_answer", "no program was handed in")
        seed = derive_seed("foreign", instance.id) % 2**31
        return self.verdict(self.runner.call(self.kind, seed, file=self.file, program=answer))

    def _reward(self, metrics: Mapping[str, float]) -> float | None:
        if self.metric == MEAN:
            return fmean(metrics.values()) if metrics else None
        return super()._reward(metrics)
