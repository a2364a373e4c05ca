from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("tasks", "flows", "specs"):
        (tmp_path / name).mkdir()
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sia_flow.cli.main", "task", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_task_is_made_checked_and_listed(project: Path) -> None:
    made = run(project, "new", "curves")
    assert made.returncode == 0
    assert "sia-flow task check tasks/curves" in made.stdout
    checked = run(project, "check", "tasks/curves", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["admitted"] is True
    manifest = project / "tasks" / "curves" / "task.yaml"
    manifest.write_text(manifest.read_text().replace(", direction: maximize", ""))
    broken = run(project, "check", "tasks/curves")
    assert broken.returncode == 3
    assert "[missing_direction]" in broken.stdout
    assert "metric.direction: Field required" in run(project, "list").stdout
    again = run(project, "new", "curves")
    assert (again.returncode, "is there already" in again.stderr) == (3, True)


def test_a_task_is_taken_over(project: Path) -> None:
    folder = project / "guessing"
    folder.mkdir()
    (folder / "evaluator.py").write_text("def evaluate(path):\n    return {'combined_score': len(open(path).read())}\n")
    (folder / "start.py").write_text("x = 1.5\n")
    missing = run(project, "import", "openevolve", "guessing")
    assert (missing.returncode, "--seed FILE" in missing.stderr) == (3, True)
    done = run(project, "import", "openevolve", "guessing", "--seed", "start.py", "--name", "length")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(run(project, "list", "--json").stdout)["tasks"]
    assert row["name"] == "length"
    assert row["from"] == "taken over from openevolve"
    assert row["metric"] == "combined_score"


def test_help_teaches_the_verbs(project: Path) -> None:
    told = run(project, "--help").stdout
    assert all(verb in told for verb in ("new", "check", "import", "list"))
    assert "admission probes" in run(project, "check", "--help").stdout
