"""Readings of the sealed split stay on record, and each but the first takes a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.errors import StoreError
from sia_flow.lineage.check import check_store
from sia_flow.lineage.readings import Reading, all_readings, allowed, give_leave, put_reading, readings
from sia_flow.lineage.repair import mend
from sia_flow.lineage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def read(store: Store, number: int, arm_id: str = "a") -> None:
    reading = Reading(arm_id=arm_id, number=number, key=f"k{number}", experiment="small", arm="H", seed=0, data="d")
    put_reading(store, reading)


def test_the_first_reading_is_free_and_each_later_one_takes_a_word(store: Store) -> None:
    assert allowed(store, "a")
    read(store, 1)
    assert not allowed(store, "a")
    assert allowed(store, "b")
    assert (give_leave(store, "a"), give_leave(store, "a")) == (2, 2)
    assert allowed(store, "a")
    read(store, 2)
    assert not allowed(store, "a")
    assert [reading.key for reading in readings(store, "a")] == ["k1", "k2"]
    read(store, 1, "b")
    assert len(all_readings(store)) == 3


def test_a_record_that_is_gone_or_changed_is_found_and_never_mended_away(store: Store) -> None:
    for number in (1, 2):
        read(store, number)
    give_leave(store, "b")
    first, second = sorted((store.root / "readings/a").glob("*.json"))
    assert check_store(store).faults == []
    first.unlink()
    second.write_bytes(second.read_bytes().replace(b'"k2"', b'"k9"'))
    faults = check_store(store).faults
    assert sorted(fault.what.split()[-1] for fault in faults) == ["gone", "record"]
    assert mend(store, faults) == faults
    second.write_bytes(b"{")
    with pytest.raises(StoreError, match="put it back from a copy"):
        readings(store, "a")
