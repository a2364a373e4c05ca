"""The commands that look at runs: status, logs, show, diff, compare."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sia_flow.errors import SpecError
from sia_flow.lineage.heads import heads
from sia_flow.lineage.locks import experiment_lock
from sia_flow.lineage.references import find, find_generation
from sia_flow.lineage.store import Store
from sia_flow.loop.eventlog import EventLog
from tests.cli.ops_world import call, copy, refusal, template


@pytest.fixture
def root() -> Path:
    """The applied project, to be left as it is."""
    return template()


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root / ".sia-flow/store")


def test_heads_hold_what_makes_a_run_again(store: Store) -> None:
    found = {head.name: head for head in heads(store)}
    assert set(found) == {"small/SIA-H/seed-0", "small/W/seed-0"}
    head = found["small/W/seed-0"]
    assert head.spec["spec"]["budget"]["generations"] == 1
    assert set(head.inputs) == {"task", "data", "verifier", "base"}
    assert {"python", "numpy", "torch"} <= set(head.versions)
    assert head.result is not None
    assert store.arm(head.result) is not None
    for path in (store.root / "heads").rglob("*.json"):
        path.read_text()


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("small/W@0", 0),
        ("small/W/seed-0@1", 1),
        ("small/W/0@last", 1),
        ("runs/small/W/seed-0/gen-1", 1),
        ("small/W@best", 1),
    ],
)
def test_a_generation_has_many_names(store: Store, name: str, index: int) -> None:
    found = find(store, name)
    assert found.generation is not None
    assert found.label == f"small/W/seed-0@{index}"
    assert find(store, found.generation.id[:10]).generation == found.generation


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smal/W@1", "there are small/SIA-H/seed-0, small/W/seed-0"),
        ("small", "names 2 runs"),
        ("small/W@7", "it has 2, numbered from 0"),
        ("ffffffffffff", "starts with"),
        ("../../etc", "no run is called"),
    ],
)
def test_a_name_that_is_none_says_what_there_is(store: Store, name: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        find_generation(store, name)


def test_status_of_a_run_that_ended_runs_or_was_killed(tmp_path: Path) -> None:
    root = copy(tmp_path)
    assert call(root, "status").startswith("small: finished\n  SIA-H seed 0: 2 generations, done (budget.generations)")
    log = EventLog(root / ".sia-flow/logs/small.jsonl")
    with experiment_lock(root / ".sia-flow/locks", "small"):
        log.run("began")
        log.step_started("train-LoRA", "W seed 0 gen 2", 40)
        log.step_advanced("W seed 0 gen 2", 7)
        text = call(root, "status", "specs/small.yaml")
        assert text.startswith(f"small: running (process {os.getpid()}): train-LoRA: W seed 0 gen 2, 7 of 40\n")
    assert call(root, "status", "small").startswith("small: killed")


def test_status_as_json_and_what_has_not_begun(tmp_path: Path) -> None:
    root = copy(tmp_path)
    for path in (root / ".sia-flow/store/heads/small/W").iterdir():
        path.unlink()
    for path in (root / ".sia-flow/store/arms").iterdir():
        path.unlink()
    (found,) = json.loads(call(root, "status", "--json"))["experiments"]
    assert found["missing"] == ["W seed 0"]
    (run,) = found["runs"]
    assert (run["run"], run["done"], run["generations"]) == ("small/SIA-H/seed-0", False, 2)
    assert run["incumbent"]["index"] == run["last"]["index"] == 1


def test_a_finished_arm_from_before_heads_is_found(tmp_path: Path) -> None:
    root = copy(tmp_path)
    for path in (root / ".sia-flow/store/heads").rglob("*.json"):
        path.unlink()
    assert "W seed 0: 2 generations, done" in call(root, "status")
    assert refusal(root, SpecError, "fork", "small/W").startswith("the spec of")


def test_logs_tell_steps_generations_and_the_end(root: Path) -> None:
    lines = call(root, "logs", "small", "-n", "0").splitlines()
    assert lines[0].split()[2:] == ["run", "began"]
    assert lines[-1].split()[2:] == ["run", "finished"]
    assert sum(" generation  " in line for line in lines) == 4
    assert any("done        train-LoRA: W seed 0 gen 1" in line for line in lines)
    (last,) = [json.loads(line) for line in call(root, "logs", "small", "-n", "1", "--json").splitlines()]
    assert last["event"] == "run"
    assert "was not applied" in refusal(root, SpecError, "logs", "other")


def test_a_log_that_was_cut_or_lacks_fields_is_still_read(tmp_path: Path) -> None:
    root = copy(tmp_path)
    path = root / ".sia-flow/logs/small.jsonl"
    path.write_text('{"event": "arm", "arm": "A\\u001b[2J"}\n{"event": "generation"}\n{"event": "start", "st')
    text = call(root, "logs", "small")
    assert "arm ended   A\\x1b[2J seed -: -, sealed -" in text
    assert len(text.splitlines()) == 2


def test_a_replay_adds_no_lines_for_what_was_there(tmp_path: Path) -> None:
    from tests.cli.ops_world import apply

    root = copy(tmp_path)
    before = call(root, "logs", "small", "-n", "0").splitlines()
    apply(root / "specs/small.yaml")
    added = call(root, "logs", "small", "-n", "0").splitlines()[len(before) :]
    assert [line.split()[2:] for line in added] == [["run", "began"], ["run", "finished"]]


def test_show_tells_a_run_and_a_generation(root: Path, store: Store) -> None:
    run = call(root, "show", "small/W")
    assert "small/W/seed-0: 2 generations" in run
    assert "sealed" in run
    assert "2x2: best scaffold, best weights" in run
    text = call(root, "show", "small/W@1", "--answers", "1")
    assert "Decision: weights" in text
    assert "&gt;" not in text
    assert "--- answer with reward" in text
    assert "def denoise(" in text
    found = json.loads(call(root, "show", "small/W@1", "--json"))
    assert store.generation(found["generation"]["id"]).index == 1


def test_diff_says_what_moved_and_exits_1(root: Path) -> None:
    text = call(root, "diff", "small/SIA-H@0", "small/SIA-H@1", code=1)
    assert "\n-KNN: int = 5" in text or "\n-T: int = 3" in text
    assert "adapter: the same (none)" in text
    trained = json.loads(call(root, "diff", "small/W@0", "small/W@1", "--json", code=1))
    assert trained["scaffold"] == ""
    assert trained["adapters"][0] is None
    assert trained["tensors"][0]["delta"] >= trained["tensors"][-1]["delta"] > 0
    train, select = trained["changes"]
    assert train["low"] <= train["new"] - train["old"] <= train["high"]
    assert (train["split"], select["split"]) == ("train", "select")


def test_diff_of_the_same_is_nothing_and_exits_0(root: Path) -> None:
    # Both arms share generation 0.
    text = call(root, "diff", "small/SIA-H@0", "small/W@0")
    assert "nothing is different" in text
    assert "scaffold: the same" in text


def test_compare_by_name_by_file_and_while_an_arm_is_missing(tmp_path: Path) -> None:
    root = copy(tmp_path)
    by_name, by_file = (json.loads(call(root, "compare", what, "--json")) for what in ("small", "specs/small.yaml"))
    assert by_name == by_file
    assert [arm["arm"] for arm in by_name["arms"]] == ["SIA-H", "W"]
    wider = json.loads(call(root, "compare", "specs/small.yaml", "--set", "spec.seeds=[0,1]", "--json", code=2))
    assert wider["arms"] == by_name["arms"]
    head = root / ".sia-flow/store/heads/small/W/seed-0.json"
    head.write_text(head.read_text().replace('"result":"', '"result":"0'))
    assert json.loads(call(root, "compare", "small", "--json", code=2))["arms"] == by_name["arms"][:1]
    # The records, not the head, are the truth of what a spec file asks for.
    assert json.loads(call(root, "compare", "specs/small.yaml", "--json"))["arms"] == by_name["arms"]


def test_a_spec_that_changed_is_not_compared_by_what_was_recorded(root: Path) -> None:
    other = json.loads(call(root, "compare", "specs/small.yaml", "--set", "training.samples=4", "--json", code=2))
    assert [arm["arm"] for arm in other["arms"]] == []


def test_a_grid_says_its_cost_and_runs_only_after_a_yes(tmp_path: Path) -> None:
    root = copy(tmp_path)
    spec = "specs/small.yaml"
    text = call(root, "compare", spec, "--grid")
    assert "2 cells, all measured" in text
    assert "weights swapped for base, before it: falls by " in text
    (head,) = [head for head in heads(Store(root / ".sia-flow/store")) if head.arm == "W"]
    store = Store(root / ".sia-flow/store")
    last = store.generation(head.generations[-1])
    store._step_path(last.steps["rollout select"]).unlink()
    left = call(root, "compare", spec, "--grid", code=2)
    assert "2 cells, 1 to measure: 4 rollouts on select" in left
    assert "falls by" not in left
    assert store.find(last.steps["rollout select"]) is None
    assert call(root, "compare", spec, "--grid", "--yes").rpartition("falls by")[2] == text.rpartition("falls by")[2]
    assert store.find(last.steps["rollout select"]) is not None
    found = json.loads(call(root, "compare", spec, "--grid", "--json").splitlines()[-1])
    assert found["cost"]["missing"] == 0
    assert [cell["joint"] for cell in found["grids"][0]["cells"]] == [False, True]
    assert found["falls"][0]["method"] == "paired bootstrap over rollouts"
    assert "needs the spec file" in refusal(root, SpecError, "compare", "small", "--grid")
