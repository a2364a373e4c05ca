"""The commands that act on runs: fork, resume, stop, gc, export, reproduce, track sync, and apply without a server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sia_flow.errors import InfrastructureError, LockedError, SpecError, StoreError
from sia_flow.lineage.heads import read_head, write_head
from sia_flow.lineage.locks import experiment_lock, holder
from sia_flow.lineage.store import Store
from sia_flow.spec.load import load_experiments
from tests.cli.ops_world import TWO, apply, call, copy, refusal
from tests.flows.world import end, journal, make_project, output, records, sia_flow, start, until

LOCAL = ("--engine", "local")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy(tmp_path)


def test_a_fork_starts_from_the_agent_that_it_names(root: Path) -> None:
    store = Store(root / ".sia-flow/store")
    text = call(root, "fork", "small/W@1", "--set", "budget.generations=1", "--set", "search.trials=3")
    assert "wrote specs/small-fork-1.yaml: small/W/seed-0@1 is its generation 0" in text
    before = records(root)
    (result,) = apply(root / "specs/small-fork-1.yaml")
    origin = read_head(store, "small", "W", 0)
    assert origin is not None
    old, new = store.generation(origin.generations[1]), store.generation(result.generations[0])
    assert (new.scaffold, new.adapter, new.steps["fork of"]) == (old.scaffold, old.adapter, old.id)
    assert new.adapter is not None
    # Under the same settings the rollouts are the same steps, found and not run again.
    assert {new.steps[name] for name in ("rollout train", "verify select")} <= {Path(p).stem for p in before}
    assert new.select == old.select
    assert "fork-2" in call(root, "fork", "small/W@1")
    assert "spread: null" not in (root / "specs/small-fork-2.yaml").read_text()
    applied = root / ".sia-flow/applied/small.json"
    spec = json.loads(applied.read_text())
    applied.write_text(json.dumps({**spec, "spec": {**spec["spec"], "spread": {"jobs": 2}}}))
    call(root, "fork", "small/W@1", "--name", "there")
    (there,) = load_experiments(root / "specs/there.yaml", [])
    assert there.spec.spread is not None
    assert there.spec.spread.jobs == 2


def test_a_fork_that_cannot_be_leaves_no_file(root: Path) -> None:
    before = sorted((root / "specs").iterdir())
    assert "budgte" in refusal(root, SpecError, "fork", "small/W@1", "--set", "budgte.generations=1")
    assert "is there already" in refusal(root, SpecError, "fork", "small/W@1", "--name", "small")
    assert sorted((root / "specs").iterdir()) == before
    assert call(root, "fork", "small/W@1", "--name", "mine", "--json")
    path = root / "specs/mine.yaml"
    spec = path.read_text().partition("start: ")
    path.write_text(f"{spec[0]}start: {'ab' * 32}{spec[2][64:]}")
    assert "fork a generation of this project" in refusal(root, SpecError, "apply", "specs/mine.yaml", *LOCAL)


@pytest.mark.slow
def test_resume_goes_on_from_what_was_applied_last(root: Path) -> None:
    before = records(root)
    (root / "specs/small.yaml").unlink()
    for path in (root / ".sia-flow/store/arms").glob("*.json"):
        path.unlink()
    sia_flow("resume", "small", *LOCAL, cwd=root, MLFLOW_TRACKING_URI="sqlite:////dev/null/no")
    assert records(root) == before
    assert "nothing to go on with" in refusal(root, SpecError, "resume", "other")


@pytest.mark.slow
def test_stop_ends_a_run_politely_and_resume_finishes_it(root: Path) -> None:
    whole = records(root)
    shutil.rmtree(root / ".sia-flow/store")
    process = start("apply", "specs/small.yaml", *LOCAL, cwd=root, MLFLOW_TRACKING_URI="sqlite:////dev/null/no")
    try:
        until(lambda: len(journal(root)) > 6 or process.poll() is not None, 200)
        assert holder(root / ".sia-flow/locks", "small") == process.pid
        assert "small has stopped" in call(root, "stop", "small")
        assert process.wait(timeout=60) == 130, output(process)
    finally:
        end(process)
    assert call(root, "status").startswith("small: stopped: stopped; everything up to here is stored")
    assert "small is not running" in call(root, "stop", "small")
    apply(root / "specs/small.yaml")
    assert records(root) == whole


def test_stop_now_does_not_wait_for_the_step(root: Path) -> None:
    body = (
        "import signal, sys, time\nfrom pathlib import Path\nfrom sia_flow.lineage.locks import experiment_lock\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "with experiment_lock(Path('.sia-flow/locks'), 'small'):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    held = subprocess.Popen([sys.executable, "-c", body], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == b"held\n"
        assert "still in its step" in refusal(root, InfrastructureError, "stop", "small", "--wait", "0")
        assert held.stdout.readline() == b"asked\n"
        found = json.loads(call(root, "stop", "small", "--now", "--json"))
        assert found == {"experiment": "small", "pid": held.pid, "stopped": True}
        assert held.wait(timeout=30) == -signal.SIGINT
    finally:
        held.kill()
        held.communicate()


def test_gc_removes_what_no_record_names_and_nothing_else(root: Path) -> None:
    store = Store(root / ".sia-flow/store")
    orphan = store.objects.put_tree({"a.py": b"orphan", "b.py": b"another"})
    half = store.root / "generations" / ".half.json.x"
    half.write_text("half")
    scratch = root / ".sia-flow/work/key"
    scratch.mkdir(parents=True)
    before = records(root)
    dry = json.loads(call(root, "gc", "--dry-run", "--json"))
    assert not dry["removed"]
    assert store.objects.has(orphan)
    gone = json.loads(call(root, "gc", "--json"))
    assert gone["paths"] == dry["paths"]
    assert not store.objects.has(orphan)
    assert not half.exists()
    assert not scratch.exists()
    assert records(root) == before
    for step in (store.root / "steps").rglob("*.json"):
        assert store.find(step.stem) is not None
    assert json.loads(call(root, "gc", "--json"))["paths"] == []
    assert "freed 0.0 MB in 0" in call(root, "gc")


def test_gc_is_refused_while_an_experiment_runs(root: Path) -> None:
    with experiment_lock(root / ".sia-flow/locks", "small"):
        assert "is being applied" in refusal(root, LockedError, "gc")


@pytest.mark.slow
def test_an_export_runs_by_itself(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    call(root, "export", "small/W@1", "agent")
    target = tmp_path_factory.mktemp("elsewhere") / "agent"
    shutil.move(root / "agent", target)
    done = subprocess.run(
        [sys.executable, "-I", "run.py", "--seed", "3"],
        cwd=target,
        env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("import numpy as np\n")
    card = (target / "README.md").read_text()
    assert "base_model: tiny-gpt-oss" in card
    assert "pip install torch transformers peft" in card


def test_the_card_says_the_sealed_score_of_the_incumbent_alone(root: Path) -> None:
    store = Store(root / ".sia-flow/store")
    results = {result.arm: result for result in store.arms()}
    best = max(results.values(), key=lambda result: result.select.mean)
    call(root, "export", "small", "agent", "--no-base")
    assert f"**Sealed: {best.sealed.mean:.4f} ± {best.sealed.se:.4f}**" in (root / "agent/README.md").read_text()
    assert not (root / "agent/base").exists()
    call(root, "export", "small/SIA-H@0", "first", "--no-base")
    assert "sealed split was not read" in (root / "first/README.md").read_text()
    assert not (root / "first/adapter").exists()
    assert "is there already" in refusal(root, SpecError, "export", "small", "agent")
    assert "no adapter to merge" in refusal(root, SpecError, "export", "small/SIA-H@0", "x", "--merged")
    assert not list(root.glob("*x*"))


def test_an_exported_adapter_and_its_merged_form_give_the_same_logits(root: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    call(root, "export", "small/W@1", "agent", "--merged")
    plain = AutoModelForCausalLM.from_pretrained(root / "agent/base")
    ids = torch.tensor([[1, 3, 40, 41, 42]])
    with torch.inference_mode():
        before = plain(ids).logits
        adapted = PeftModel.from_pretrained(plain, str(root / "agent/adapter"))(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(root / "agent/merged")(ids).logits
    assert torch.allclose(adapted, merged, atol=1e-4)
    assert not torch.allclose(adapted, before, atol=1e-4)


@pytest.mark.slow
def test_reproduce_makes_a_generation_again_and_finds_what_was_tampered_with(root: Path) -> None:
    text = call(root, "reproduce", "small/SIA-H@0")
    assert "small/SIA-H/seed-0 made again: 10 digests, 0 of them different" in text
    assert not (root / ".sia-flow/reproduced/small/SIA-H/seed-0").exists()
    store = Store(root / ".sia-flow/store")
    head = read_head(store, "small", "SIA-H", 0)
    assert head is not None
    forged = store.generation(head.generations[0])
    path = store.root / "generations" / f"{forged.id}.json"
    better = forged.select.model_copy(update={"mean": forged.select.mean + 1})
    path.write_text(forged.model_copy(update={"select": better}).model_dump_json())
    found = json.loads(call(root, "reproduce", "small/SIA-H@0", "--json", code=1))
    assert [row["what"] for row in found["digests"] if not row["same"]] == ["generation 0 select rewards"]


def test_reproduce_check_reads_every_object_and_the_inputs(root: Path) -> None:
    call(root, "export", "small/SIA-H", "agent", "--no-base")
    assert "0 of them different" in call(root, "reproduce", "agent/lock.json", "--check")
    store = Store(root / ".sia-flow/store")
    head = read_head(store, "small", "SIA-H", 0)
    assert head is not None
    damaged = store.objects.path(store.generation(head.generations[1]).trajectories)
    damaged.write_bytes(damaged.read_bytes() + b" ")
    (root / "tasks/denoise/task.md").write_text("Another task.\n")
    found = json.loads(call(root, "reproduce", "small/SIA-H", "--check", "--json", code=1))
    wrong = [row["what"] for row in found["digests"] if not row["same"]]
    assert wrong == ["task digest", "generation 1 trajectories"]


@pytest.mark.slow
def test_track_sync_rebuilds_mlflow_from_the_store(root: Path) -> None:
    place = f"sqlite:///{root / 'other.db'}"
    assert "small: 4 generations are in MLflow" in call(root, "track", "sync", "--uri", place)
    rows = sqlite3.connect(root / "other.db").execute("select name, status from runs").fetchall()
    assert sorted(rows) == sorted(
        [(f"gen-{i}", "FINISHED") for i in (0, 0, 1, 1)] + [("SIA-H seed 0", "FINISHED")] + [("W seed 0", "FINISHED")]
    )
    call(root, "track", "sync", "small", "--uri", place)
    assert sqlite3.connect(root / "other.db").execute("select count(*) from runs").fetchone() == (6,)
    assert "misses part" in refusal(root, InfrastructureError, "track", "sync", "--uri", "sqlite:////dev/null/no")


@pytest.mark.slow
def test_without_a_server_that_answers_a_run_goes_on_here(root: Path) -> None:
    before = records(root)
    shutil.rmtree(root / ".sia-flow/store")
    environment = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "MLFLOW_TRACKING_URI": "sqlite:////dev/null/no"}
    text = sia_flow("apply", "specs/small.yaml", cwd=root, **environment)
    assert "no Prefect server (http://127.0.0.1:9/api, which PREFECT_API_URL names, does not answer" in text
    assert "the run goes on without it, as with --engine local" in text
    assert "Traceback" not in text
    assert records(root) == before


def test_a_dangling_link_where_the_data_should_be_is_replaced(root: Path) -> None:
    from flows.prepare import _move

    partial, target, elsewhere = root / "part", root / "data/denoise/linked", root / "gone"
    partial.mkdir()
    (partial / "meta.json").write_text("{}")
    target.symlink_to(elsewhere)
    _move(partial, target)
    assert (target / "meta.json").read_text() == "{}"
    assert not target.is_symlink()
    other = root / "part2"
    other.mkdir()
    with pytest.raises(StoreError, match="cannot put part2 in place"):
        _move(other, root / "specs/small.yaml/x")


def test_a_fork_of_an_arm_that_matched_another_s_spend_has_a_budget_of_its_own(root: Path) -> None:
    store = Store(root / ".sia-flow/store")
    head = read_head(store, "small", "SIA-H", 0)
    assert head is not None
    arm = {"name": "SIA-H-equal", "levers": ["harness"], "control": None, "spend": "dearest"}
    spec = {**head.spec, "spec": {**head.spec["spec"], "arms": [arm, {"name": "SIA-H", "levers": ["harness"]}]}}
    write_head(store, head.model_copy(update={"arm": "SIA-H-equal", "spec": spec}))
    call(root, "fork", "small/SIA-H-equal@1")
    (forked,) = load_experiments(root / "specs/small-fork-1.yaml")
    assert [(one.name, one.spend) for one in forked.spec.arms] == [("SIA-H", "budget")]


def test_another_project_goes_on_with_records_that_were_carried_there(root: Path, tmp_path: Path) -> None:
    share, other = str(tmp_path / "share"), make_project(tmp_path / "other", TWO).parents[1]
    there = json.loads(call(root, "store", "push", share, "--json"))
    assert there["files"] > 20
    call(other, "plan", "specs/small.yaml", code=2)
    assert f"pulled {there['files']} files" in call(other, "store", "pull", share)
    call(other, "plan", "specs/small.yaml")
    assert records(other) == records(root)
    assert "pushed 0 files" in call(other, "store", "push", share)
    assert "Protocol not known" in refusal(root, InfrastructureError, "store", "push", "gopher://x")
    assert "holds no records" in refusal(root, StoreError, "store", "pull", str(tmp_path / "nowhere"))
