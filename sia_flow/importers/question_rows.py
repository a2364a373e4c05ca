"""Question sets: rows with a question and an answer, divided once into train, select and sealed.

Invariant: rows with the same question are in the same split, so nothing that was trained on is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sia_flow.canonical import derive_seed, digest, digest_bytes
from sia_flow.errors import TaskError

SHARES = {"train": 3, "select": 1, "sealed": 1}
FEWEST = 5
MOST_LABELS = 400


def divide(rows: Sequence[Mapping[str, Any]], sealed: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return rows with their split: 3 : 1 : 1, or 4 : 1 with `sealed` given apart. Raises TaskError.

    A row whose question also stands among the sealed ones is left out of the others.
    """
    held = {question_key(row) for row in sealed}
    open_rows = [row for row in rows if question_key(row) not in held]
    shares = {"train": 4, "select": 1} if sealed else SHARES
    names = [name for name, share in shares.items() for _ in range(share)]
    placed = [{**row, "split": names[derive_seed("split", question_key(row)) % len(names)]} for row in open_rows]
    placed += [{**row, "split": "sealed"} for row in sealed]
    for name in SHARES:
        count = sum(row["split"] == name for row in placed)
        if count == 0:
            raise TaskError(
                f"no row falls into the split {name}: {len(rows)} rows are too few, {FEWEST} or more are needed"
            )
    return placed


def question_key(row: Mapping[str, Any]) -> str:
    """Return the hash of a row's question, its id left out."""
    return digest(row["question"])


def label_set(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the answers as labels where they are a small set that repeats; none for free answers."""
    answers = [row["answer"] for row in rows]
    labels = sorted(set(answers))
    return labels if len(labels) <= min(MOST_LABELS, len(answers) // 2) else []


def pack(rows: Sequence[Mapping[str, Any]]) -> tuple[bytes, dict[str, Any]]:
    """Return rows.jsonl and the meta that describes it. Raises TaskError where ids or answers are wrong."""
    ids = [row["id"] for row in rows]
    if len(set(ids)) != len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise TaskError(f"the id {twice!r} stands in the data twice")
    empty = [row["id"] for row in rows if not str(row["answer"]).strip()]
    if empty:
        raise TaskError(f"row {empty[0]!r} has no answer")
    data = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows).encode()
    counts = {name: sum(row["split"] == name for row in rows) for name in SHARES}
    return data, {"files": {"rows.jsonl": digest_bytes(data)}, "splits": counts}
