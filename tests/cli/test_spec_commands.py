"""The commands that need only a spec, run as users run them: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

GOOD = "metadata: {name: one}\nspec: {task: {name: denoise}, arms: [SIA-H]}\n"
BAD = "metadata: {name: one}\nspec: {task: {name: denoise}, seeds: [x]}\n"


def sia_flow(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, "-m", "sia_flow", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def test_help_lists_every_command_of_the_table(tmp_path: Path) -> None:
    from sia_flow.cli.main import COMMANDS

    done = sia_flow("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert {"plan", "apply", "status", "compare", "doctor", "ui", "prepare", "validate"} <= set(COMMANDS)
    for name, entry in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert entry.help in done.stdout


def test_version_and_a_mistyped_command(tmp_path: Path) -> None:
    assert sia_flow("--version", cwd=tmp_path).stdout == "sia-flow 0.1.0\n"
    done = sia_flow("aply", cwd=tmp_path)
    assert done.returncode == 2
    assert "apply" in done.stderr


def test_validate_says_what_is_valid_and_what_is_not(folder: Path) -> None:
    done = sia_flow("validate", "good.yaml", "bad.yaml", cwd=folder)
    assert done.returncode == 3
    assert done.stdout.startswith("good.yaml: valid: one, arms SIA-H, 1 seed, up to 6 generations (")
    assert done.stderr == 'bad.yaml:2:39: spec.seeds[0]: found "x"; expected a whole number\n'
    assert sia_flow("validate", "bad.yaml", "--set", "seeds=[1]", cwd=folder).returncode == 0


def test_validate_for_machines(folder: Path) -> None:
    done = sia_flow("validate", "good.yaml", "bad.yaml", "--json", cwd=folder)
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"]) == (3, False)
    good, bad = found["specs"]
    assert (good["valid"], good["experiments"][0]["name"]) == (True, "one")
    assert len(good["experiments"][0]["digest"]) == 64
    assert bad["problems"][0]["line"] == 2
    assert bad["problems"][0]["path"] == "spec.seeds[0]"


def test_a_message_cannot_steer_the_terminal(folder: Path) -> None:
    (folder / "evil.yaml").write_text('metadata: {name: "a\\e[31mred"}\nspec: {task: {name: t}}\n')
    done = sia_flow("validate", "evil.yaml", cwd=folder)
    assert done.returncode == 3
    assert "\x1b" not in done.stderr
    assert "\\x1b[31mred" in done.stderr


def test_schema_is_printed_and_written(tmp_path: Path) -> None:
    printed = sia_flow("schema", cwd=tmp_path)
    assert sia_flow("schema", "--out", "sub/spec.json", cwd=tmp_path).returncode == 0
    schema = json.loads(printed.stdout)
    assert schema == json.loads((tmp_path / "sub/spec.json").read_text())
    Draft202012Validator.check_schema(schema)


def test_explain_answers_or_hints(tmp_path: Path) -> None:
    done = sia_flow("explain", "budget.wall", cwd=tmp_path)
    assert done.returncode == 0
    assert "30m, 90s, 2h" in done.stdout
    wrong = sia_flow("explain", "budget.wal", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert "spec.budget.wall" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = sia_flow("explain", "nonsense", cwd=tmp_path, SIA_FLOW_DEBUG="1")
    assert "Traceback" in done.stderr


def test_init_lays_out_a_project_that_validates(tmp_path: Path) -> None:
    done = sia_flow("init", "project", cwd=tmp_path)
    assert done.returncode == 0
    assert "sia-flow apply specs/denoise.yaml" in done.stdout
    project = tmp_path / "project"
    assert (project / ".gitignore").is_file()
    assert (project / "flows/experiment.py").is_file()
    assert (project / "tasks/denoise/verifier.py").is_file()
    assert not list(project.rglob("__pycache__"))
    assert sia_flow("validate", "specs/denoise.yaml", cwd=project).returncode == 0


def test_init_overwrites_only_when_told(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "specs").mkdir(parents=True)
    mine, theirs = project / "mine.txt", project / "specs/denoise.yaml"
    mine.write_text("mine")
    theirs.write_text("old")
    refused = sia_flow("init", "project", cwd=tmp_path)
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert theirs.read_text() == "old"
    assert sia_flow("init", "project", "--force", cwd=tmp_path).returncode == 0
    assert theirs.read_text() != "old"
    assert mine.read_text() == "mine"


def test_init_refuses_a_file_and_its_own_source(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in sia_flow("init", "file", cwd=tmp_path).stderr
    own = sia_flow("init", str(Path(__file__).resolve().parents[2]), "--force", cwd=tmp_path)
    assert own.returncode == 1
    assert "own files" in own.stderr
