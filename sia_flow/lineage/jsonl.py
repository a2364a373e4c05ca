"""Records as JSON lines, the form in which trajectories and verdicts lie in the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from sia_flow.canonical import canonical_json
from sia_flow.lineage.records import Record

AnyRecord = TypeVar("AnyRecord", bound=Record)


def dump_lines(records: Iterable[Record]) -> bytes:
    """Return one canonical JSON line a record."""
    return b"".join(canonical_json(record.model_dump(mode="json")) + b"\n" for record in records)


def load_lines(data: bytes, kind: type[AnyRecord]) -> list[AnyRecord]:
    """Return the records of JSON lines. Raises pydantic.ValidationError where one is not of its kind."""
    return [kind.model_validate_json(line) for line in data.splitlines() if line]
