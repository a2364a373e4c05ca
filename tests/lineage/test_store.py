"""The store: a step with a record never runs again; damage and newer versions are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.errors import StoreError
from sia_flow.lineage.records import Spend
from sia_flow.lineage.store import Step, StepOutput, Store

STEP = Step("rollout", 1, {"samples": 4}, {"scaffold": "abc", "adapter": None}, 7)


def body_of(store: Store, calls: list[str]) -> StepOutput:
    calls.append("ran")
    return StepOutput({"out": store.objects.put_bytes(b"data")}, {"mean": 0.5}, Spend(rollouts=4))


def test_a_step_runs_once(tmp_path: Path) -> None:
    calls: list[str] = []
    store = Store(tmp_path)
    first = store.run(STEP, lambda: body_of(store, calls))
    again = Store(tmp_path).run(STEP, lambda: body_of(store, calls))
    assert calls == ["ran"]
    assert again == first
    assert again.spend.rollouts == 4
    assert again.result == {"mean": 0.5}


@pytest.mark.parametrize(
    "other",
    [
        Step("verify", 1, STEP.params, STEP.inputs, 7),
        Step("rollout", 2, STEP.params, STEP.inputs, 7),
        Step("rollout", 1, {"samples": 5}, STEP.inputs, 7),
        Step("rollout", 1, STEP.params, {"scaffold": "abd", "adapter": None}, 7),
        Step("rollout", 1, STEP.params, STEP.inputs, 8),
    ],
)
def test_everything_that_a_step_reads_is_in_its_key(other: Step) -> None:
    assert other.key != STEP.key


def test_a_step_that_fails_leaves_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails() -> StepOutput:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        store.run(STEP, fails)
    assert store.find(STEP.key) is None


def test_a_record_whose_output_is_gone_counts_as_not_done(tmp_path: Path) -> None:
    calls: list[str] = []
    store = Store(tmp_path)
    record = store.run(STEP, lambda: body_of(store, calls))
    store.objects.path(record.outputs["out"]).unlink()
    store.run(STEP, lambda: body_of(store, calls))
    assert calls == ["ran", "ran"]


def test_records_hold_no_times(tmp_path: Path) -> None:
    paths = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        record = store.run(STEP, lambda store=store: body_of(store, []))
        paths.append(tmp_path / name / "steps" / record.key[:2] / f"{record.key}.json")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_newer_store_is_refused_by_name(tmp_path: Path) -> None:
    Store(tmp_path)
    (tmp_path / "VERSION").write_text("999\n")
    with pytest.raises(StoreError, match="newer sia-flow \\(format 999"):
        Store(tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = store.run(STEP, lambda: body_of(store, []))
    path = tmp_path / "steps" / record.key[:2] / f"{record.key}.json"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match="damaged"):
        store.find(STEP.key)


def test_the_journal_tells_what_ran_and_survives_a_cut_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.run(STEP, lambda: body_of(store, []))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"event": "st')
    assert [entry["event"] for entry in store.journal()] == ["start", "done"]
