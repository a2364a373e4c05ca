"""Scores charges by exact match, one case an instance; the same strict reader scores a whole file of answers.

Invariant: the label of a case stays in `private`; what is computed from it and leaves here are verdicts. Feedback
never names a label.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import digest, digest_bytes
from sia_flow.errors import TaskError
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import ArraySpec, Instance
from tasks.lawbench import data, scoring

SOURCES = ("verifier.py", "scoring.py")
NOTHING = ArraySpec((0,))
ORDER_SEED = 20260527


class LawBenchVerifier:
    """The verifier on one prepared data set."""

    floor = 0.0
    guards_block = False

    def __init__(self, mode: str, data_dir: Path) -> None:
        if mode != "exact":
            raise TaskError(f"lawbench has no mode {mode!r}; it has exact")
        self.data = data.load(data_dir)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the sources that decide a score."""
        folder = Path(__file__).parent
        return digest([digest_bytes((folder / name).read_bytes()) for name in SOURCES])

    @property
    def data_digest(self) -> str:
        """Hash of the prepared data set."""
        return self.data.digest

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` cases of a split, or all where there are fewer, in an order that hangs on the seed alone."""
        total = len(self.data.parts[split].texts)
        order = np.random.Generator(np.random.PCG64(ORDER_SEED + seed)).permutation(total)
        return tuple(self.instance(split, int(row)) for row in order[:count])

    def instance(self, split: Split, row: int) -> Instance:
        """Return one case of a split by its row."""
        part = self.data.parts[split]
        name = f"{split}-{row}"
        return Instance(
            id=f"{self.data.name}/{name}",
            split=split,
            public={"task": "lawbench", "id": name, "facts": part.texts[row]},
            arrays={},
            returns=NOTHING,
            private={"label": part.labels[row : row + 1]},
        )

    def visible(self, instance: Instance) -> Instance:
        """Return the twin without the label: an agent may ask whether an answer has the right form, no more."""
        return Instance(f"{instance.id}/visible", instance.split, instance.public, {}, NOTHING)

    def score_text(self, instance: Instance, answer: str) -> Verdict:
        """Score the line of one case; on the visible twin a well-formed answer earns nothing."""
        name = str(instance.public["id"])
        found = scoring.parse(answer, [name], self.data.classes)
        if isinstance(found, scoring.Fault):
            return Verdict(reward=self.floor, valid=False, reason=found.reason, feedback=found.feedback)
        if "label" not in instance.private:
            return Verdict(reward=self.floor, valid=True, feedback="well-formed; nothing more is told here")
        right = scoring.accuracy(found, {name: self.data.classes[int(instance.private["label"][0])]})
        return Verdict(reward=right, valid=True, metrics={"accuracy": right}, feedback="right" if right else "wrong")

    def score_file(self, split: Split, answer: str) -> Verdict:
        """Score one file with the answers to all cases of a split."""
        part = self.data.parts[split]
        truth = {f"{split}-{row}": self.data.classes[int(label)] for row, label in enumerate(part.labels)}
        found = scoring.parse(answer, list(truth), self.data.classes)
        if isinstance(found, scoring.Fault):
            return Verdict(reward=self.floor, valid=False, reason=found.reason, feedback=found.feedback)
        share = scoring.accuracy(found, truth)
        words = f"{len(found)} of {len(truth)} cases answered"
        return Verdict(reward=share, valid=True, metrics={"accuracy": share}, feedback=words)

    def score(self, instance: Instance, output: NDArray[np.float64]) -> Verdict:
        """Refuse an array: answers of this task are texts."""
        del instance, output
        return Verdict(reward=self.floor, valid=False, reason="bad_result", feedback="answer with a text, id,label")

    def baselines(self, instance: Instance) -> Mapping[str, Verdict]:
        """Return the verdicts of each tool's first charge; TF-IDF with a linear SVC is the one to beat."""
        part, row = self.data.parts[instance.split], self.row(instance)
        tops = {name: int(part.scores[tool][row].argmax()) for name, tool in BASELINES.items()}
        return {name: self.score_text(instance, self.line(instance, top)) for name, top in tops.items()}

    def guards(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return no guard: exact match has no other side."""
        del metrics
        return {}

    def row(self, instance: Instance) -> int:
        """Return a case's row in its split. Raises TaskError for an instance of another task."""
        name = str(instance.public.get("id", ""))
        split, _, row = name.partition("-")
        if split != instance.split or not row.isdigit() or int(row) >= len(self.data.parts[instance.split].texts):
            raise TaskError(f"{instance.id} is no case of lawbench")
        return int(row)

    def line(self, instance: Instance, label: int) -> str:
        """Return the answer that names a charge by its index."""
        return answer_line(str(instance.public["id"]), self.data.classes[label])


def answer_line(name: str, label: str) -> str:
    """Return the line `id,label`; a label with a comma is quoted."""
    quoted = '"' + label.replace('"', '""') + '"'
    return f"{name},{quoted}"


def answer_file(names: Sequence[str], labels: Sequence[str]) -> str:
    """Return a whole file of answers."""
    return "".join(f"{answer_line(name, label)}\n" for name, label in zip(names, labels, strict=True))


BASELINES = {
    "tfidf svc": "svc",
    "nearest centroid": "centroid",
    "kernel ridge": "kernel",
    "nearest cases": "nearest",
}
