"""Whether the splits are there, are disjoint, stay the same, and keep what is private out of what is shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from sia_flow.admission.findings import Finding, ok
from sia_flow.errors import VerifierError
from sia_flow.lineage.records import Split
from sia_flow.protocols import Instance
from sia_flow.verify.apart.client import ApartVerifier
from sia_flow.verify.audit import Audit, array_digest, text_digest

SPLITS: tuple[Split, ...] = get_args(Split)
DRAWN, DRAWN_TEXTS = 24, 10_000
"""Instances of each split that are looked at, of programs and of texts."""
SHORTEST = 4
"""Characters below which an answer may well stand in a question by chance."""

NOT_THERE = ("IndexError", "KeyError", "ValueError")
"""What a verifier raises for a split that it has not."""

Drawn = Mapping[Split, Sequence["Looked"]]


class Looked(NamedTuple):
    """An instance, and what is told of its private part."""

    instance: Instance
    audit: Audit


def draw(verifier: ApartVerifier, count: int) -> dict[Split, Sequence[Looked]]:
    """Return instances of every split; a split that cannot be had is empty. Raises VerifierError."""
    found: dict[Split, Sequence[Looked]] = {}
    for split in SPLITS:
        try:
            pairs = zip(verifier.instances(split, count, 0), verifier.audits(split, count, 0), strict=True)
            found[split] = [Looked(*pair) for pair in pairs]
        except VerifierError as error:
            if error.kind not in NOT_THERE:
                raise
            found[split] = ()
    return found


def check_splits(drawn: Drawn, again: Drawn) -> Iterator[Finding]:
    """Yield what is wrong with the splits: `again` is what a second verifier of the same data gave."""
    missing = [split for split in SPLITS if not drawn[split]]
    if missing:
        words = f"no instance in {', '.join(missing)}; a task needs train, select and sealed"
        yield Finding("splits", "fail", "missing_split", words)
    yield from _ids(drawn)
    changed = [s for s in SPLITS if [one.audit for one in drawn[s]] != [one.audit for one in again[s]]]
    if changed:
        words = f"{', '.join(changed)}: a second verifier of the same data makes other instances; seed what is drawn"
        yield Finding("splits", "fail", "instances_change", words)
    overlap = _overlap(drawn)
    yield from overlap
    if not missing and not changed and not overlap:
        counts = ", ".join(f"{split} {len(drawn[split])}" for split in SPLITS)
        yield ok("splits", f"disjoint and the same every time (looked at: {counts})")


def check_leaks(drawn: Drawn) -> Iterator[Finding]:
    """Yield where something private stands in what a candidate is shown."""
    leaks = [(one.instance.id, name) for split in SPLITS for one in drawn[split][:8] for name in one.audit.leaks]
    for identity, name in leaks:
        words = f"{identity}: the private array {name!r} is among the arrays that the candidate gets"
        yield Finding("leak", "fail", "private_is_public", words)
    if not leaks:
        yield ok("leak", "nothing private stands among what a candidate is given")


def check_answers_in_questions(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the share of rows whose answer stands in their own question, where it is more than a few."""
    told = [r for r in rows if len(str(r["answer"])) >= SHORTEST and str(r["answer"]) in _text(r["question"])]
    if told:
        share = len(told) / len(rows)
        words = f"{len(told)} of {len(rows)} questions ({share:.0%}) hold their own answer, {told[0]['id']!r} for one"
        yield Finding("leak", "warn", "answer_in_question", words)


def _ids(drawn: Drawn) -> Iterator[Finding]:
    counts = Counter(one.instance.id for split in SPLITS for one in drawn[split])
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        words = f"the id {twice[0]!r} names {counts[twice[0]]} instances; an id is the key of a verdict"
        yield Finding("splits", "fail", "duplicate_ids", words)


def _overlap(drawn: Drawn) -> list[Finding]:
    """Return a finding for each pair of splits that share an observation: a row of an array, or a whole question."""
    seen = {split: {part for one in drawn[split] for part in _observations(one.instance)} for split in SPLITS}
    if len(seen["train"]) == 1 and seen["train"] == seen["select"] == seen["sealed"]:
        words = "the task is one objective, the same in every split: select and sealed tell nothing that train does not"
        return [Finding("splits", "warn", "one_objective", words)]
    pairs = [(first, second) for index, first in enumerate(SPLITS) for second in SPLITS[index + 1 :]]
    return [
        Finding(
            "splits",
            "fail",
            "split_overlap",
            f"{first} and {second} share {shared} of {len(seen[second])} observations",
        )
        for first, second in pairs
        if (shared := len(seen[first] & seen[second]))
    ]


def _observations(instance: Instance) -> Iterator[str]:
    """Yield hashes of what may stand in one split only. Rows that are constant tell nothing and are left out."""
    if not instance.arrays:
        yield text_digest(json.dumps(dict(instance.public), sort_keys=True, default=str))
    for array in instance.arrays.values():
        rows = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
        for row in rows:
            if row.size > 1 and (row != row[0]).any():
                yield array_digest(row)


def _text(question: object) -> str:
    return json.dumps(question, ensure_ascii=False) if not isinstance(question, str) else question
