"""`sia-flow fsck` on a small store: exit codes, JSON, the repair, what lies beside the store."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sia_flow.cli.main import main
from sia_flow.errors import SpecError
from sia_flow.lineage.heads import heads, write_head
from sia_flow.lineage.store import Store
from sia_flow.loop.laidout import lay_out
from sia_flow.loop.same_base import refuse_changed_base, refuse_other_base
from sia_flow.loop.view import FolderView
from tests.lineage.chain import make_chain


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("tasks", "flows"):
        (tmp_path / name).mkdir()
    store = make_chain(tmp_path / ".sia-flow/store")
    view = FolderView(store, tmp_path / "runs", tmp_path / "models/checkpoints", "small")
    lay_out(store, view, heads(store)[0])
    return tmp_path


Fsck = Callable[..., dict[str, Any]]


@pytest.fixture
def fsck(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fsck:
    """The command in this process: give it options and the exit code that it must end with."""

    def run(*arguments: str, code: int) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["sia-flow", "fsck", "--json", "-C", str(project), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == code, out + err
        report: dict[str, Any] = json.loads(out) if out else {"said": err}
        return report

    return run


def test_a_sound_store_gives_zero(fsck: Fsck) -> None:
    report = fsck(code=0)
    assert report["sound"]
    assert report["checked"]["generations"] == 2


def test_damage_gives_one_and_the_repair_mends_it(project: Path, fsck: Fsck) -> None:
    store = project / ".sia-flow/store"
    (store / "steps" / ".half.json.x").write_bytes(b"{")
    generation = next((store / "generations").glob("*1.json"))
    generation.write_bytes(generation.read_bytes()[:99])
    found = fsck(code=1)
    assert {"steps/.half.json.x", f"generations/{generation.name}"} <= {f["path"] for f in found["faults"]}
    assert generation.exists()
    mended = fsck("--repair", code=0)
    assert all(fault["mended"] for fault in mended["faults"])
    assert (store / "aside/generations" / generation.name).exists()
    assert fsck(code=0)["faults"] == []


def test_a_view_that_was_edited_is_written_anew(project: Path, fsck: Fsck) -> None:
    scaffold = project / "runs/small/SIA-H/seed-0/gen-1/scaffold/scaffold.py"
    weights = project / "models/checkpoints/small/SIA-H/seed-0/adapter/adapter_model.safetensors"
    whole = scaffold.read_text()
    scaffold.write_text("N = 7\n")
    weights.write_bytes(b"other weights")
    (project / "runs/small/SIA-H/seed-0/gen-0/trajectories.jsonl").unlink()
    paths = {fault["path"] for fault in fsck(code=1)["faults"]}
    assert paths == {str(scaffold.relative_to(project)), str(weights.relative_to(project))}
    fsck("--repair", code=0)
    assert (scaffold.read_text(), weights.read_bytes()) == (whole, b"weights")
    assert (project / "runs/small/SIA-H/seed-0/gen-0/trajectories.jsonl").exists()


def test_a_laid_out_adapter_that_was_changed_goes(project: Path, fsck: Fsck) -> None:
    store = Store(project / ".sia-flow/store")
    oid = store.generation(f"{1:064x}").adapter
    assert oid is not None
    place = store.objects.checkout(oid, project / ".sia-flow/adapters" / oid.removesuffix(".dir"))
    assert fsck(code=0)["faults"] == []
    (place / "adapter_model.bin").write_bytes(b"pickle")
    assert "laid-out adapter" in fsck(code=1)["faults"][0]["what"]
    fsck("--repair", code=0)
    assert not place.exists()


def base_at(folder: Path, weights: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_base_model_that_changed_is_named_and_refused(project: Path, fsck: Fsck) -> None:
    from sia_flow.policy.bases import base_digest

    store, folder = Store(project / ".sia-flow/store"), base_at(project / "models/tiny-gpt-oss", b"one")
    used = base_digest(folder)
    head = heads(store)[0].model_copy(
        update={"inputs": {"base": used}, "spec": {"spec": {"policy": {"base": "tiny-gpt-oss"}}}}
    )
    write_head(store, head)
    refuse_other_base(store, "small", "tiny-gpt-oss", folder, used)
    assert fsck(code=0)["faults"] == []
    now = base_digest(base_at(folder, b"another"))
    assert "not the base model that small/SIA-H/seed-0 ran on" in fsck("--repair", code=1)["faults"][0]["what"]
    with pytest.raises(SpecError, match="has changed: small/SIA-H/seed-0 ran on"):
        refuse_other_base(store, "small", "tiny-gpt-oss", folder, now)
    refuse_other_base(store, "another-name", "tiny-gpt-oss", folder, now)
    with pytest.raises(SpecError, match="changed while the run was under way"):
        refuse_changed_base(folder, now, used)


def test_a_running_experiment_is_not_repaired_and_its_files_are_no_leftovers(project: Path, fsck: Fsck) -> None:
    (project / ".sia-flow/store/steps/.x.json.part").write_bytes(b"{")
    locks = project / ".sia-flow/locks"
    locks.mkdir()
    with (locks / "small.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"pid": os.getpid(), "since": "now"}, file)
        file.flush()
        assert fsck(code=0)["faults"] == []
        assert f"process {os.getpid()}" in fsck("--repair", code=5)["said"]
    assert [fault["remedy"] for fault in fsck(code=1)["faults"]] == ["remove"]
