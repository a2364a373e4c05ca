"""The strict form of an answer, and what it is worth: lines of `id,label`, every id at most once, known labels only.

Invariant: nothing is guessed. A duplicate or unknown id or a label that is not a class makes the whole answer
invalid; a case that is not answered is wrong. The published evaluator takes duplicates, which can score 0.99.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an answer is refused."""

    reason: str
    """`empty`, `too_long`, `bad_line`, `duplicate_id`, `unknown_id` or `unknown_label`."""
    feedback: str


def parse(answer: str, ids: Sequence[str], classes: Sequence[str]) -> dict[str, str] | Fault:
    """Return id -> label, or why the answer is refused. A first line `id,label` is a header."""
    if not answer.strip():
        return Fault("empty", "the answer is empty; write one line `id,label` for each case")
    if answer.count("\n") > MAX_LINES:
        return Fault("too_long", f"the answer has more than {MAX_LINES} lines")
    known_ids, known = set(ids), set(classes)
    found: dict[str, str] = {}
    try:
        for line, row in _rows(answer):
            fault = _fault(line, row, found, known_ids, known)
            if fault is not None:
                return fault
            found[row[0].strip()] = row[1].strip()
    except csv.Error as error:
        return Fault("bad_line", f"the answer is no CSV: {error}")
    return found or Fault("empty", "the answer has a header and no case")


def accuracy(found: Mapping[str, str], truth: Mapping[str, str]) -> float:
    """Return the share of all cases of `truth` whose label is right; what is missing is wrong."""
    return sum(found.get(name) == label for name, label in truth.items()) / len(truth)


def _rows(answer: str) -> Iterator[tuple[int, list[str]]]:
    for line, row in enumerate(csv.reader(io.StringIO(answer), strict=True), start=1):
        header = line == 1 and [cell.strip() for cell in row] == ["id", "label"]
        if row and not header:
            yield line, row


def _fault(line: int, row: list[str], found: Mapping[str, str], ids: set[str], classes: set[str]) -> Fault | None:
    if len(row) != 2:
        return Fault("bad_line", f"line {line} has {len(row)} columns, not id and label; quote a label with a comma")
    name, label = row[0].strip(), row[1].strip()
    if name not in ids:
        return Fault("unknown_id", f"line {line}: there is no case {name[:40]!r} here")
    if name in found:
        return Fault("duplicate_id", f"line {line}: case {name!r} was answered already")
    if label not in classes:
        return Fault("unknown_label", f"line {line}: {label[:40]!r} is none of the {len(classes)} charges")
    return None
