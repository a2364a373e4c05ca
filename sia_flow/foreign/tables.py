"""Verifier of tasks with a table of answers and a grader (MLE-bench): the answer is a program that writes a submission.

Invariant: the program runs where only the public files are, the grader where only the answers are; between the two
goes the text of submission.csv.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from sia_flow.canonical import derive_seed, digest
from sia_flow.foreign.base import ForeignVerifier, make_instance
from sia_flow.foreign.runner import Runner, open_runner, read_folder
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import Instance

PUBLIC, ANSWERS = "public", "answers.csv"


class TableVerifier(ForeignVerifier):
    """Scores a program by the grader, on the rows of a split; the rows were divided once, at import."""

    metric = "score"

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` instances, all with the rows of the split."""
        graded = digest(self._meta["splits"][split])[:12]
        public = {"task": self._meta["name"], "files": self._meta["public"], "sample": self._meta["sample"]}
        public["graded"] = graded
        return tuple(make_instance(f"{self._meta['name']}/{split}/{seed}/{i}", split, public) for i in range(count))

    def visible(self, instance: Instance) -> Instance:
        """Return a twin that is not scored: the answers are for the verifier alone."""
        return make_instance(f"{instance.id}/visible", instance.split, instance.public)

    def score_text(self, instance: Instance, answer: str) -> Verdict:
        """Run the program, then the grader on what it wrote."""
        if not answer.strip():
            return self.failure("no_answer", "no program was handed in")
        if instance.id.endswith("/visible"):
            return self.failure("not_scorable", "the answers are for the verifier alone")
        seed = derive_seed("foreign", instance.id) % 2**31
        made = self.bench.call("candidate", seed, program=answer)
        if made.value is None or "invalid" in made.value:
            return self.verdict(made)
        return self.grade(instance.split, made.sent)

    def grade(self, split: Split, submission: str) -> Verdict:
        """Return the grader's verdict on a submission, on the rows of a split."""
        ids = self._meta["splits"][split]
        column = self._meta["id_column"]
        reply = self.runner.call("mlebench", file=self.file, submission=submission, ids=ids, id_column=column)
        return self.verdict(reply)

    @functools.cached_property
    def bench(self) -> Runner:
        """The sandbox that programs run in, with the public files and no grader."""
        public = read_folder(self.data_dir / PUBLIC)
        return open_runner({f"{PUBLIC}/{name}": data for name, data in public.items()}, self.packages)

    def _files(self) -> Mapping[str, bytes]:
        return {**read_folder(self.folder), ANSWERS: (self.data_dir / ANSWERS).read_bytes()}
