"""Every kind of damage is found and named, and a repair leaves a store on which the next apply builds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sia_flow.errors import StoreError
from sia_flow.lineage.check import check_store
from sia_flow.lineage.heads import read_head
from sia_flow.lineage.repair import mend
from sia_flow.lineage.seals import read_seals
from sia_flow.lineage.store import Store
from tests.lineage.chain import make_chain


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_chain(tmp_path / "store")


def a_step(store: Store, name: str = "rollout") -> Path:
    paths = sorted((store.root / "steps").rglob("*.json"))
    return next(path for path in paths if json.loads(path.read_bytes())["step"] == name)


def edit(path: Path, **fields: object) -> None:
    path.write_bytes(json.dumps({**json.loads(path.read_bytes()), **fields}).encode())


def an_object(store: Store) -> Path:
    record = json.loads(a_step(store).read_bytes())
    return store.objects.path(record["outputs"]["trajectories"])


def a_generation(store: Store) -> Path:
    return store.root / "generations" / f"{1:064x}.json"


def the_arm(store: Store) -> Path:
    return store.root / "arms" / f"{'a' * 64}.json"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def forget_seals(store: Store) -> None:
    (store.root / "seals.jsonl").unlink()


def better(path: Path) -> None:
    edit(path, train={**json.loads(path.read_bytes())["train"], "mean": 9.0})


DAMAGE: dict[str, tuple[Callable[[Store], object], str]] = {
    "an object's bit": (lambda s: flip(an_object(s)), "do not match its name"),
    "an object cut short": (lambda s: os.truncate(an_object(s), 5), "do not match its name"),
    "an object gone": (lambda s: an_object(s).unlink(), "is gone"),
    "a stranger among the objects": (lambda s: (an_object(s).parent / "x").touch(), "no object"),
    "a record cut short": (lambda s: os.truncate(a_step(s), 50), "no record that can be read"),
    "a record emptied": (lambda s: os.truncate(a_generation(s), 0), "no record that can be read"),
    "a record's parameter": (
        lambda s: (forget_seals(s), edit(a_step(s), params={"split": "select"})),
        "its key does not follow",
    ),
    "a record's result": (lambda s: edit(a_step(s, "verify"), result={"mean": 1.0}), "changed since it was written"),
    "a record under another name": (
        lambda s: a_step(s).rename(a_step(s).with_name(f"{'0' * 64}.json")),
        "name and its key differ",
    ),
    "a step gone": (lambda s: a_step(s).unlink(), "is gone"),
    "a score made better": (lambda s: (forget_seals(s), better(a_generation(s))), "is not what its step measured"),
    "a generation accepted by hand": (lambda s: edit(a_generation(s), accepted=False), "changed since it was written"),
    "a parent gone": (lambda s: (s.root / "generations" / f"{0:064x}.json").unlink(), "parent or origin is gone"),
    "a result of another generation": (
        lambda s: (forget_seals(s), edit(the_arm(s), incumbent=f"{0:064x}")),
        "not its incumbent's",
    ),
    "a result gone": (lambda s: the_arm(s).unlink(), "points to the result"),
    "a head cut short": (
        lambda s: os.truncate(s.root / "heads/small/SIA-H/seed-0.json", 20),
        "no record that can be read",
    ),
    "a left-over file": (lambda s: (s.root / "steps" / ".x.json.abc").write_bytes(b"half"), "left over"),
}


def test_a_whole_store_is_sound(store: Store) -> None:
    found = check_store(store)
    assert (found.faults, found.unsealed) == ([], 0)
    assert found.counts["steps"] == 8
    assert (found.counts["generations"], found.counts["arms"], found.counts["heads"]) == (2, 1, 1)
    assert len(read_seals(store.root)) == 11


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_named_and_mended(store: Store, name: str) -> None:
    damage, said = DAMAGE[name]
    damage(store)
    faults = check_store(store).faults
    assert any(said in fault.what for fault in faults), faults
    assert mend(store, faults) == []
    again = make_chain(store.root)
    assert check_store(again).faults == []
    assert again.arm("a" * 64) is not None
    whole = read_head(again, "small", "SIA-H", 0)
    assert whole is not None
    assert len(whole.generations) == 2


def test_what_rests_on_something_broken_is_set_aside_and_nothing_else(store: Store) -> None:
    flip(an_object(store))
    assert mend(store, check_store(store).faults) == []
    names = {path.relative_to(store.root / "aside").parts[0] for path in (store.root / "aside").rglob("*.json")}
    assert names >= {"steps", "generations"}
    assert not the_arm(store).exists()
    head = read_head(store, "small", "SIA-H", 0)
    assert head is not None
    assert head.result is None
    for generation_id in head.generations:
        assert store.generation(generation_id)


def test_checking_changes_nothing(store: Store) -> None:
    flip(an_object(store))
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    assert check_store(store).faults
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_a_listing_that_is_none_is_an_error_of_the_store(store: Store) -> None:
    for data in (b"[1]", b'{"a": 1}', b"[" * 5000, b'[{"relpath": "../x", "md5": "0"}]', b"\xff"):
        oid = store.objects.put_bytes(data)
        path = store.objects.path(oid)
        folder = path.with_name(f"{path.name}.dir")
        folder.write_bytes(data)
        with pytest.raises(StoreError):
            store.objects.get_tree(f"{oid}.dir")
        assert any(fault.path.endswith(".dir") for fault in check_store(store).faults)
        folder.unlink()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=st.integers(0, 10_000), cut=st.floats(0, 1), change=st.sampled_from(["cut", "flip", "grow"]))
def test_no_change_of_any_file_goes_unseen(store: Store, choice: int, cut: float, change: str) -> None:
    """Objects and sealed records: whatever happens to the bytes of one of them is found."""
    kinds = ("files", "steps", "generations", "arms")
    files = [path for kind in kinds for path in sorted((store.root / kind).rglob("*")) if path.is_file()]
    path = files[choice % len(files)]
    data = path.read_bytes()
    place = int(cut * (len(data) - 1))
    other = {
        "cut": data[:place],
        "grow": data + b" ",
        "flip": data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :],
    }
    path.write_bytes(other[change])
    try:
        relative = path.relative_to(store.root).as_posix()
        assert relative in {fault.path for fault in check_store(store).faults}
    finally:
        path.write_bytes(data)
