"""`apply` when something is wrong: one clear message, the right exit code, and nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.world import (
    ROOT,
    SPEC,
    done_steps,
    end,
    journal,
    make_project,
    output,
    records,
    run_here,
    sia_flow,
    start,
    until,
)

LOCAL = ("apply", "specs/small.yaml", "--engine", "local")
HANG = "\nimport time\ntime.sleep(3600)\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path).parents[1]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A project whose spec was never applied and whose run would be refused before it starts."""
    for name in ("tasks", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/small.yaml").write_text(SPEC)
    return tmp_path


def refused(root: Path, code: int, *words: str, command: tuple[str, ...] = LOCAL) -> None:
    text = sia_flow(*command, cwd=root, code=code)
    assert "Traceback" not in text, text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("metadata: {name: small\nspec: {task: {name: denoise}}\n", ["specs/small.yaml:2"]),
        (SPEC.replace("instances: 2", "instances: two", 1), ["specs/small.yaml:5", "two"]),
        (SPEC.replace("budget", "budgte"), ["budgte", "did you mean", "budget"]),
        (SPEC.replace("denoise", "denoice"), ["denoice", "did you mean 'denoise'"]),
        (SPEC.replace("mode: sia", "mode: sya"), ["sya", "did you mean 'sia'"]),
        (SPEC.replace("mode: sia", "data: pbmk"), ["pbmk", "did you mean 'pbmc'"]),
    ],
    ids=["yaml", "type", "key", "task", "mode", "data"],
)
def test_a_spec_that_cannot_be_run_says_where_and_what(fresh: Path, spec: str, words: list[str]) -> None:
    (fresh / "specs/small.yaml").write_text(spec)
    (fresh / "models/tiny-gpt-oss").mkdir(parents=True)
    for name in ("pbmc",):
        (fresh / "data/denoise" / name).mkdir(parents=True)
        (fresh / "data/denoise" / name / "meta.json").write_text("{}")
    refused(fresh, 3, *words)
    assert not (fresh / ".sia-flow/store/steps").exists()


def test_a_data_set_that_is_damaged_is_named(root: Path) -> None:
    (root / "data/denoise/pbmc/counts.npz").write_bytes(b"no")
    refused(root, 3, "data/denoise/pbmc", "prepare it again")


def test_a_task_without_its_verifier(root: Path) -> None:
    (root / "tasks/denoise/verifier.py").unlink()
    refused(root, 3, "denoise", "verifier")


def test_a_spec_outside_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/small.yaml").write_text(SPEC)
    refused(tmp_path, 3, "sia-flow init")


def test_a_store_of_a_newer_version_is_left_alone(root: Path) -> None:
    store = root / ".sia-flow/store"
    store.mkdir(parents=True)
    (store / "VERSION").write_text("2\n")
    refused(root, 4, "newer sia-flow", "upgrade")
    assert [path.name for path in store.iterdir()] == ["VERSION"]


def test_a_damaged_record_is_named(root: Path) -> None:
    run_here(root / "specs/small.yaml")
    arm = next((root / ".sia-flow/store/arms").glob("*.json"))
    arm.write_bytes(arm.read_bytes()[:50])
    refused(root, 4, arm.name, "delete it")
    arm.unlink()
    before = records(root)
    sia_flow(*LOCAL, cwd=root)
    assert before.items() <= records(root).items()
    assert arm.exists()


@pytest.mark.slow
def test_a_second_apply_is_refused_by_name_or_waits(root: Path) -> None:
    first = start(*LOCAL, cwd=root)
    waiting = None
    try:
        until(lambda: journal(root), 120)
        refused(root, 5, f"process {first.pid} since", "--wait")
        waiting = start(*LOCAL, "--wait", cwd=root)
        assert first.wait(timeout=120) == 0, output(first)
        assert waiting.wait(timeout=120) == 0, output(waiting)
        assert "nothing to do" in output(waiting)
        assert len(done_steps(root)) == len(set(done_steps(root)))
    finally:
        for process in (first, waiting):
            if process is not None:
                end(process)


@pytest.mark.slow
def test_ctrl_c_ends_at_a_step_boundary_and_the_run_goes_on(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    process = start(*LOCAL, cwd=root)
    try:
        until(lambda: len(journal(root)) > 4, 120)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 130, output(process)
    finally:
        end(process)
    text = output(process)
    assert "stopping after the current step" in text
    assert "the same command again goes on" in text
    assert "Traceback" not in text
    events = journal(root)
    assert events[-1]["event"] == "done"
    assert not (root / "runs/small/SIA-H/seed-0/result.json").exists()
    sia_flow(*LOCAL, cwd=root)
    whole = make_project(tmp_path_factory.mktemp("whole"))
    run_here(whole)
    assert records(root) == records(whole.parents[1])
    assert (root / "runs/small/SIA-H/seed-0/result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("size", [600, 8000])
def test_files_that_cannot_be_written_end_the_run_and_lose_nothing(root: Path, size: int) -> None:
    # A process that may write files of at most `size` bytes: what a full disk does to large ones.
    process = start(*LOCAL, cwd=root, file_size=size, MLFLOW_TRACKING_URI="sqlite:////dev/null/no")
    assert process.wait(240) == 4, output(process)[-2000:]
    text = output(process)
    assert "cannot write" in text
    assert "Traceback" not in text
    before = records(root)
    sia_flow(*LOCAL, cwd=root)
    assert before.items() <= records(root).items()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / ".sia-flow"
    folder.mkdir(exist_ok=True)
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", folder], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_says_what_to_do_and_loses_nothing(root: Path, small_disk: Path) -> None:
    text = sia_flow(*LOCAL, cwd=root, code=4, MLFLOW_TRACKING_URI="sqlite:////dev/null/no")
    assert "No space left" in text
    assert "free some space and run the same command again" in text
    before = records(root)
    assert before
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    sia_flow(*LOCAL, cwd=root)
    assert before.items() <= records(root).items()


def test_what_changed_in_a_spec_is_said(root: Path) -> None:
    path = root / "specs/small.yaml"
    run_here(path)
    sia_flow(*LOCAL, cwd=root)
    path.write_text(SPEC.replace("arms: [SIA-H]", "arms: [SIA-H]\n  seeds: [0]"))
    assert "spec changed" not in sia_flow(*LOCAL, cwd=root)
    longer = SPEC.replace("generations: 1", "generations: 2")
    path.write_text(longer.replace("samples: 3}\n  search", "samples: 4}\n  search"))
    text = sia_flow(*LOCAL, cwd=root)
    assert "spec changed: spec.budget.generations 1 -> 2 (extends)" in text
    assert "spec changed: spec.training.samples 3 -> 4 (new run)" in text
    assert "spec changed" not in sia_flow(*LOCAL, cwd=root)
