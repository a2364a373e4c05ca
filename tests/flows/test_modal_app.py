"""The app for Modal: what its function does, here, in a folder that plays the container's."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from sia_flow.lineage.mirror import pull
from tests.flows.warm import ROOT
from tests.flows.world import journal, make_project, records, run_here, template

pytestmark = pytest.mark.slow


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The app, with the places of its container below `tmp_path`."""
    from flows import modal_app

    # Made with the tracker that is left out below.
    template()
    monkeypatch.setattr(modal_app, "PROJECT", str(tmp_path / "project"))
    monkeypatch.setattr(modal_app, "RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # No server: the run says so and goes on.
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/no")
    return modal_app


def test_records_outlive_the_container(app: ModuleType, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    app.apply.local("specs/small.yaml", [])
    shutil.rmtree(tmp_path / "project")
    pull(tmp_path / "home/.sia-flow", str(tmp_path / "records/store"))
    whole = make_project(tmp_path / "whole")
    run_here(whole)
    assert records(tmp_path / "home") == records(tmp_path / "whole")
    # The next container finds them: nothing is left to do.
    make_project(tmp_path / "project")
    app.apply.local("specs/small.yaml", [])
    done = Counter(entry["key"] for entry in journal(tmp_path / "project") if entry["event"] == "done")
    assert max(done.values()) == 1


def test_what_is_made_on_a_machine_stays_out_of_the_image() -> None:
    from modal import FilePatternMatcher

    apart = FilePatternMatcher.from_file(ROOT / "specs/profiles/Dockerfile.dockerignore")
    for name in (
        ".venv/bin/python",
        ".sia-flow/store/VERSION",
        "mlruns/mlflow.db",
        "data/x",
        "flows/__pycache__/a.pyc",
    ):
        assert apart(Path(name)), name
    for name in ("pyproject.toml", "mlruns/README.md", "specs/denoise.yaml", "tasks/denoise/task.yaml", "dvc.yaml"):
        assert not apart(Path(name)), name
