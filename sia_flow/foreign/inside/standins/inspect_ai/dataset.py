"""Samples, and the data sets that can be had without a network."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Sample:
    """One question with its answer."""

    def __init__(
        self,
        input: Any,  # noqa: A002 - the name that task files use
        target: str | Sequence[str] = "",
        choices: Sequence[str] | None = None,
        id: Any = None,  # noqa: A002
        metadata: dict[str, Any] | None = None,
        **_unused: Any,
    ) -> None:
        self.input = input
        self.target = target
        self.choices = list(choices) if choices is not None else None
        self.id = id
        self.metadata = metadata or {}

    @property
    def text(self) -> str:
        """Return the question as text; of a conversation, what the user says."""
        if isinstance(self.input, str):
            return self.input
        return "\n".join(str(getattr(message, "content", message)) for message in self.input)

    def row(self, index: int) -> dict[str, Any]:
        """Return the sample as JSON, with its place in the data set."""
        target = self.target if isinstance(self.target, str) else [str(one) for one in self.target]
        return {
            "id": str(self.id if self.id is not None else index + 1),
            "input": self.text,
            "choices": self.choices,
            "target": target,
        }


@dataclass
class FieldSpec:
    """Which fields of a record are what."""

    input: str = "input"
    target: str = "target"
    choices: str = "choices"
    id: str = "id"
    metadata: Any = field(default=None)


class Dataset(Sequence[Sample]):
    """A list of samples."""

    def __init__(self, samples: Sequence[Sample], name: str | None = None, **_unused: Any) -> None:
        self.samples = list(samples)
        self.name = name

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        found = self.samples[index]
        return type(self)(found, self.name) if isinstance(index, slice) else found

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def filter(self, keep: Callable[[Sample], bool], name: str | None = None) -> Dataset:
        """Return the samples that are to be kept."""
        return type(self)([sample for sample in self.samples if keep(sample)], name or self.name)

    def shuffle(self, seed: int | None = None) -> None:
        """Shuffle by a seed; without one by 0, so that the order is the same every time."""
        random.Random(seed or 0).shuffle(self.samples)

    def shuffle_choices(self, seed: int | None = None) -> None:
        """Refused: the target's letters would have to follow."""
        del seed
        raise NotImplementedError("shuffle_choices is not taken over; lay the choices out in the file")


MemoryDataset = Dataset


def json_dataset(json_file: str, sample_fields: Any = None, **settings: Any) -> Dataset:
    """Read a JSON array or JSON lines."""
    text = Path(json_file).read_text(encoding=settings.get("encoding", "utf-8"))
    lines = str(json_file).endswith(".jsonl")
    records = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    return _make(records, sample_fields, settings)


def csv_dataset(csv_file: str, sample_fields: Any = None, **settings: Any) -> Dataset:
    """Read a CSV file with a header."""
    with Path(csv_file).open(encoding=settings.get("encoding", "utf-8"), newline="") as file:
        records = list(csv.DictReader(file, delimiter=settings.get("delimiter", ",")))
    return _make(records, sample_fields, settings)


def example_dataset(name: str, sample_fields: Any = None) -> Dataset:
    """Read a data set that ships with Inspect, from a copy beside the task file."""
    for suffix, read in ((".jsonl", json_dataset), (".csv", csv_dataset)):
        if Path(name + suffix).is_file():
            return read(name + suffix, sample_fields)
    raise FileNotFoundError(f"copy {name}.jsonl from inspect_ai/dataset/_examples beside the task file")


def hf_dataset(path: str, *_arguments: Any, **_settings: Any) -> Dataset:
    """Refused: there is no network in the sandbox."""
    raise ConnectionError(f"the data set {path!r} is on a hub; save it beside the task file and read it from there")


def _make(records: Sequence[dict[str, Any]], sample_fields: Any, settings: dict[str, Any]) -> Dataset:
    made: list[Sample] = []
    for record in records:
        found = sample_fields(record) if callable(sample_fields) else _sample(record, sample_fields or FieldSpec())
        made += found if isinstance(found, list) else [found]
    dataset = Dataset(made, settings.get("name"))
    if settings.get("shuffle"):
        dataset.shuffle(settings.get("seed"))
    limit = settings.get("limit")
    return dataset if limit is None else dataset[:limit]


def _sample(record: dict[str, Any], fields: FieldSpec) -> Sample:
    choices = record.get(fields.choices)
    target = record.get(fields.target, "")
    return Sample(
        record[fields.input],
        target if isinstance(target, list) else str(target),
        choices=choices if isinstance(choices, list) else None,
        id=record.get(fields.id),
    )
