"""Prepared data sets: one folder with `cases.json`, `scores.npz` and `meta.json`, the last written last.

The published train cases are divided once, by charge and a fixed seed, into train and select; the published test
cases are sealed. `python -m tasks.lawbench.data cail data/lawbench/cail` is what the DVC stage runs.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sia_flow.canonical import canonical_json, digest_bytes
from sia_flow.errors import SiaFlowError, TaskError
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Split
from tasks.lawbench import retrieval
from tasks.lawbench.retrieval import Labels, Scores
from tasks.lawbench.synthetic import generate
from tasks.lawbench.wheel import PACKAGE, SHA256, VERSION, Cases, published

SCHEMA = "sia-flow/lawbench-data@1"
SPLITS: tuple[Split, ...] = ("train", "select", "sealed")
SELECT = 0.12
"""Share of each charge's published train cases that goes to select, rounded; a charge keeps all where that is none."""
SPLIT_SEED = 20260527


@dataclass(frozen=True, slots=True)
class Part:
    """The cases of one split."""

    texts: tuple[str, ...]
    labels: Labels
    """[N] indices into the classes."""
    scores: Mapping[str, Scores]
    """Tool -> [N, classes]."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A prepared data set. `digest` is the hash of its meta.json, which holds the hashes of its files."""

    name: str
    classes: tuple[str, ...]
    parts: Mapping[Split, Part]
    digest: str = field(default="")


def prepare(name: str, out: Path) -> dict[str, Any]:
    """Make the data set `cail` or `synthetic` under `out` and return its meta.

    Raises TaskError for an unknown name, faulty cases, or a wheel that cannot be had.
    """
    if name not in ("cail", "synthetic"):
        raise TaskError(f"no data set {name!r} for lawbench: give cail or synthetic")
    cases = published() if name == "cail" else generate()
    check(cases)
    texts, labels = divide(cases)
    packed = _pack(_score(texts, labels, len(cases.classes)))
    numbers: dict[str, list[int]] = {split: labels[split].tolist() for split in SPLITS}
    listed = {str(split): texts[split] for split in SPLITS}
    written = canonical_json({"classes": cases.classes, "texts": listed, "labels": numbers}) + b"\n"
    meta = {
        "schema": SCHEMA,
        "name": name,
        "source": f"{PACKAGE} {VERSION}, sha256 {SHA256}" if name == "cail" else "generated",
        "classes": len(cases.classes),
        "splits": {s: len(texts[s]) for s in SPLITS},
        "split_seed": SPLIT_SEED,
        "tools": list(retrieval.TOOLS),
        "files": {"cases.json": digest_bytes(written), "scores.npz": digest_bytes(packed)},
    }
    write_atomic(out / "cases.json", written)
    write_atomic(out / "scores.npz", packed)
    write_atomic(out / "meta.json", json.dumps(meta, indent=2, sort_keys=True).encode() + b"\n")
    return meta


def check(cases: Cases) -> None:
    """Raise TaskError for a set without cases or classes, an empty text, and a label that is not a class."""
    if not cases.classes or not cases.train or not cases.test:
        raise TaskError("lawbench: the set is empty: it needs classes, train cases and test cases")
    if len(set(cases.classes)) != len(cases.classes):
        raise TaskError("lawbench: a class stands in the list twice")
    known = set(cases.classes)
    for what, rows in (("train", cases.train), ("test", cases.test)):
        for number, (text, label) in enumerate(rows):
            if not text.strip():
                raise TaskError(f"lawbench: {what} case {number} has no text")
            if label not in known:
                raise TaskError(f"lawbench: {what} case {number} has the label {label!r}, which is not a class")


def divide(cases: Cases) -> tuple[dict[Split, list[str]], dict[Split, Labels]]:
    """Return texts and labels of each split."""
    index = {label: number for number, label in enumerate(cases.classes)}
    labels = np.array([index[label] for _, label in cases.train])
    chosen = np.zeros(len(labels), dtype=bool)
    random = np.random.Generator(np.random.PCG64(SPLIT_SEED))
    for number in range(len(cases.classes)):
        members = random.permutation(np.flatnonzero(labels == number))
        chosen[members[: round(SELECT * len(members))]] = True
    parts: dict[Split, list[tuple[str, str]]] = {
        "train": [row for row, taken in zip(cases.train, chosen, strict=True) if not taken],
        "select": [row for row, taken in zip(cases.train, chosen, strict=True) if taken],
        "sealed": list(cases.test),
    }
    texts = {split: [text for text, _ in rows] for split, rows in parts.items()}
    return texts, {split: np.array([index[label] for _, label in rows]) for split, rows in parts.items()}


def _score(texts: Mapping[Split, list[str]], labels: Mapping[Split, Labels], classes: int) -> dict[str, Scores]:
    """Return what the tools say of each case of each split, `SPLIT/TOOL` -> [N, classes]."""
    both = np.concatenate([labels["train"], labels["select"]])
    found = {
        "train": retrieval.held_out(texts["train"], labels["train"], classes),
        "select": retrieval.scores(texts["train"], labels["train"], texts["select"], classes),
        "sealed": retrieval.scores(texts["train"] + texts["select"], both, texts["sealed"], classes),
    }
    return {f"{split}/{tool}": values for split, tools in found.items() for tool, values in tools.items()}


def load(folder: Path) -> DataSet:
    """Read a prepared data set and check its hashes. Raises TaskError that says how to prepare it."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        cases, packed = (folder / "cases.json").read_bytes(), (folder / "scores.npz").read_bytes()
    except (OSError, ValueError) as error:
        raise TaskError(f"{folder} holds no prepared data set of lawbench: run `sia-flow prepare`") from error
    if meta.get("schema") != SCHEMA:
        raise TaskError(f"{folder}/meta.json has schema {meta.get('schema')!r}, not {SCHEMA!r}: prepare it again")
    for name, content in (("cases.json", cases), ("scores.npz", packed)):
        if digest_bytes(content) != meta["files"][name]:
            raise TaskError(f"{folder}/{name} is not what meta.json describes: prepare it again")
    listed = json.loads(cases)
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        parts = {split: _part(listed, split, file) for split in SPLITS}
    return DataSet(meta["name"], tuple(listed["classes"]), parts, digest_bytes(canonical_json(meta)))


def _part(listed: Mapping[str, Any], split: Split, file: Mapping[str, Scores]) -> Part:
    scores = {tool: file[f"{split}/{tool}"] for tool in retrieval.TOOLS}
    return Part(tuple(listed["texts"][split]), np.array(listed["labels"][split], dtype=np.int64), scores)


def _pack(arrays: Mapping[str, Scores]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a data set from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.lawbench.data", description="Prepare data of the task lawbench."
    )
    parser.add_argument("name", help="cail or synthetic")
    parser.add_argument("out", type=Path, help="folder to write, for example data/lawbench/cail")
    given = parser.parse_args(arguments)
    try:
        meta = prepare(given.name, given.out)
    except SiaFlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{given.out}: {meta['splits']}, {meta['classes']} charges\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
