"""`--help` and `validate` answer at once, because they import nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sia_flow.cli.main import Entry, load_command
from sia_flow.errors import SiaFlowError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "anthropic",
    "dvc",
    "mlflow",
    "numba",
    "numpy",
    "optuna",
    "pandas",
    "peft",
    "prefect",
    "scipy",
    "torch",
    "transformers",
    "trl",
}


def imported(*arguments: str) -> set[str]:
    """Return the top-level names of all modules that a command imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sia_flow.cli.main", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["validate", "specs/denoise.yaml"], ["explain", "budget"], ["schema"]],
    ids=lambda arguments: arguments[0],
)
def test_a_light_command_imports_nothing_heavy(arguments: list[str]) -> None:
    names = imported(*arguments)
    assert "typer" in names
    assert names & HEAVY == set()


def test_help_does_not_even_import_the_spec() -> None:
    assert imported("--help") & {"pydantic", "yaml"} == set()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("sia_flow.cli.nowhere:command", "has no command x"),
        ("needs_more:command", "needs the module absent_package"),
    ],
)
def test_a_command_that_cannot_be_imported_says_why(
    target: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "needs_more.py"
    module.write_text("import absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SiaFlowError, match=words):
        load_command("x", Entry(target, "help"))
