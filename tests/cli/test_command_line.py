"""How the command line ends: one message, the right exit code, in a checkout and in an installed package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAILING = """
import os, signal
from sia_flow import errors
def command(how: str) -> None:
    "End in one way."
    if how == "interrupt":
        print("ready", flush=True)
        signal.pause()
    if how == "interrupt in generated code":
        exec("raise KeyboardInterrupt")
    raise getattr(errors, how)("it went wrong\\x1b[0m")
"""
RUN = """
import sys
from sia_flow.cli import main
main.COMMANDS["fail"] = main.Entry("failing:command", "Fail.")
main.main()
"""


def start(folder: Path, how: str, **environment: str) -> subprocess.Popen[str]:
    """Run the real command line with one more command, which ends as it is told."""
    (folder / "failing.py").write_text(FAILING)
    (folder / "running.py").write_text(RUN)
    return subprocess.Popen(
        [sys.executable, "-m", "running", "fail", how],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [("SpecError", 3), ("LockedError", 5), ("IsolationError", 6), ("Interrupted", 130), ("SiaFlowError", 1)],
)
def test_an_error_is_one_message_and_its_exit_code(tmp_path: Path, error: str, code: int) -> None:
    process = start(tmp_path, error)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "it went wrong\\x1b[0m\n")


def test_a_fault_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    process = start(tmp_path, "no_such_error")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "AttributeError" in err


def test_debug_keeps_the_traceback_of_every_error(tmp_path: Path) -> None:
    process = start(tmp_path, "SpecError", SIA_FLOW_DEBUG="1")
    assert "Traceback" in process.communicate(timeout=60)[1]


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    process = start(tmp_path, "interrupt")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 130
    assert "Traceback" not in process.communicate()[1]


def test_an_interrupt_within_generated_code_ends_with_130(tmp_path: Path) -> None:
    """As dataclasses make while they are imported: `python -m` would otherwise end by the signal itself."""
    process = start(tmp_path, "interrupt in generated code")
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode == 130


def test_an_installed_package_lays_out_its_own_project(tmp_path: Path) -> None:
    """The wheel carries the project's files inside the package; nothing of a checkout is there."""
    package = tmp_path / "site" / "sia_flow"
    shutil.copytree(ROOT / "sia_flow", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("flows", "specs", "tasks"):
        shutil.copytree(ROOT / name, package / "project" / name)
    marker = package / "project" / "specs" / "marker.yaml"
    marker.write_text("from: wheel\n")
    done = subprocess.run(
        [sys.executable, "-m", "sia_flow", "init", "project"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "project/specs/marker.yaml").read_text() == "from: wheel\n"
    assert (tmp_path / "project/tasks/denoise/verifier.py").is_file()
