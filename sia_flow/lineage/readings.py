"""Who has read the sealed split: one record a reading, and one for each word that let it be read again.

Invariant: these records are never changed or removed by sia-flow; a reading is on record before the first sealed
instance is given out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from sia_flow.errors import StoreError
from sia_flow.lineage.records import Record
from sia_flow.lineage.store import Store

AnyRecord = TypeVar("AnyRecord", bound=Record)


class Reading(Record):
    """An arm's result that the sealed split was read for."""

    kind: Literal["sia-flow/reading@1"] = "sia-flow/reading@1"
    arm_id: str
    """Digest of what makes the arm itself: its science, its seed and its inputs, but no budget."""
    number: int
    """1 for the first reading of the arm."""
    key: str
    """Key of the result."""
    experiment: str
    arm: str
    seed: int
    data: str
    """Digest of the data set."""


class Leave(Record):
    """A user's word that an arm may read its sealed split once more."""

    kind: Literal["sia-flow/leave@1"] = "sia-flow/leave@1"
    arm_id: str
    number: int
    """The reading that it is for."""


def readings(store: Store, arm_id: str) -> list[Reading]:
    """Return an arm's readings, the first one first. Raises StoreError for a damaged record."""
    return sorted(_read(store, arm_id, "reading", Reading), key=lambda reading: reading.number)


def all_readings(store: Store) -> list[Reading]:
    """Return every reading of the store. Raises StoreError for a damaged record."""
    folders = sorted((store.root / "readings").glob("[!.]*"))
    return [reading for folder in folders for reading in readings(store, folder.name)]


def allowed(store: Store, arm_id: str) -> bool:
    """Say whether the arm's next reading is its first one, or was allowed by a user's word."""
    number = len(readings(store, arm_id)) + 1
    return number == 1 or any(leave.number == number for leave in _read(store, arm_id, "leave", Leave))


def put_reading(store: Store, reading: Reading) -> None:
    """Put a reading on record."""
    store.put_beside(_path(store, reading.arm_id, "reading", reading.number), reading)


def give_leave(store: Store, arm_id: str) -> int:
    """Put on record that the arm may read once more, and return the number of that reading."""
    number = len(readings(store, arm_id)) + 1
    store.put_beside(_path(store, arm_id, "leave", number), Leave(arm_id=arm_id, number=number))
    return number


def _path(store: Store, arm_id: str, what: str, number: int) -> Path:
    return store.root / "readings" / arm_id / f"{what}-{number:04d}.json"


def _read(store: Store, arm_id: str, what: str, kind: type[AnyRecord]) -> Iterator[AnyRecord]:
    for path in sorted((store.root / "readings" / arm_id).glob(f"{what}-*.json")):
        try:
            yield kind.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise StoreError(
                f"{path}, which says that the sealed split was read, is damaged: put it back from a copy"
            ) from error
