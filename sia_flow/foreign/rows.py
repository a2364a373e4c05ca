"""Verifiers of imported question sets: one instance a row, the answer a text.

Invariant: a row's answer stays in the verifier; train, select and sealed rows are divided once, at import.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sia_flow.canonical import derive_seed, digest_bytes
from sia_flow.errors import TaskError
from sia_flow.foreign.base import ForeignVerifier, make_instance, read_meta
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import Instance

ROWS = "rows.jsonl"
MAX_ANSWER = 1 << 14


class RowsVerifier(ForeignVerifier):
    """Scores an answer by equality with the row's, but for spaces at its ends and the spelling of lists."""

    metric = "accuracy"

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` rows of a split, drawn by the seed without replacement; all where there are fewer."""
        rows = [row for row in self.rows.values() if row["split"] == split]
        order = random.Random(derive_seed("rows", self.data_digest, split, seed)).sample(rows, min(count, len(rows)))
        return tuple(make_instance(f"{split}/{row['id']}", split, self._public(row)) for row in order)

    def visible(self, instance: Instance) -> Instance:
        """Return a twin that has no answer: nothing about a row's answer may be asked for."""
        return make_instance(f"{instance.id}/visible", instance.split, instance.public)

    def score_text(self, instance: Instance, answer: str) -> Verdict:
        """Score the answer to a row."""
        if not answer.strip():
            return self.failure("no_answer", "no answer was given")
        if len(answer) > MAX_ANSWER:
            return self.failure("too_long", f"the answer is longer than {MAX_ANSWER} characters")
        row = self.rows.get(instance.id.partition("/")[2])
        if row is None:
            return self.failure("not_scorable", "this row has no answer that may be asked for")
        return self._judge(row, answer)

    @functools.cached_property
    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """The rows by id; see `read_rows`."""
        return read_rows(self.data_dir)

    def _public(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"task": self._meta["name"], "question": row["question"], "labels": self._meta["labels"]}

    def _judge(self, row: Mapping[str, Any], text: str) -> Verdict:
        labels = self._meta["labels"]
        given = plain(text)
        if labels and given not in {plain(label) for label in labels}:
            return self.failure("unknown_label", "the answer is none of the labels")
        right = given == plain(row["answer"])
        return Verdict(reward=float(right), valid=True, metrics={"accuracy": float(right)})


class InspectVerifier(RowsVerifier):
    """Scores an answer by the scorer of an Inspect task file, run in the sandbox."""

    metric = "score"

    def _judge(self, row: Mapping[str, Any], text: str) -> Verdict:
        task = self._meta["task"]
        reply = self.runner.call("inspect_score", file=self.file, task=task, sample=row["index"], completion=text)
        return self.verdict(reply)


def read_rows(data_dir: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the rows of a prepared data set by id. Raises TaskError where the file is not what its meta describes."""
    path = data_dir / ROWS
    data = path.read_bytes() if path.is_file() else b""
    if digest_bytes(data) != read_meta(data_dir)["files"][ROWS]:
        raise TaskError(f"{path} is not what meta.json describes: run `sia-flow task import` again")
    rows = [json.loads(line) for line in data.decode("utf-8").splitlines()]
    return {row["id"]: row for row in rows}


def plain(answer: str) -> str:
    """Return an answer in the spelling by which answers are compared: a JSON list as its items with commas."""
    text = answer.strip()
    if text[:1] == "[" and text[-1:] == "]":
        try:
            items = json.loads(text)
        except ValueError:
            return text
        if isinstance(items, list):
            return ", ".join(str(item).strip() for item in items)
    return text
