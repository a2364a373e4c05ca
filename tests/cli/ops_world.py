"""A project with one small experiment that was applied, for the commands that look at runs."""

from __future__ import annotations

import atexit
import contextlib
import io
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sia_flow.cli.main import build_app
from sia_flow.cli.workbench import remember
from sia_flow.lineage.store import Store
from sia_flow.loop.eventlog import EventLog, log_path
from sia_flow.loop.events import Several
from sia_flow.loop.heads import HeadKeeper
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments
from tests.flows.once import made_once
from tests.flows.world import SPEC, make_project, run_here

TWO = SPEC.replace("[SIA-H]", "[SIA-H, {name: W, levers: [weights]}]")


@cache
def template() -> Path:
    """Return a project of this process in which the experiment was applied."""
    root = Path(tempfile.mkdtemp(prefix="sia-flow-ops-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    applied = made_once("applied", lambda folder: apply(make_project(folder, TWO)))
    shutil.copytree(applied, root, dirs_exist_ok=True, symlinks=True)
    return root


def apply(spec: Path, *overrides: str) -> list[Any]:
    """Apply a spec in this process, with those who keep heads and log, and without tracker or server."""
    project = Project.find(spec)
    (experiment,) = load_experiments(spec, list(overrides))
    log = EventLog(log_path(project.state, experiment.metadata.name))
    log.run("began")
    results = run_here(spec, *overrides, watcher=Several(HeadKeeper(Store(project.store), experiment), log))
    log.run("finished")
    remember(project, experiment)
    return results


def copy(folder: Path) -> Path:
    """Return a copy of the applied project that a test may change."""
    shutil.copytree(template(), folder, dirs_exist_ok=True, symlinks=True)
    return folder


def call(root: Path, *arguments: str, code: int = 0) -> str:
    """Call the command line in this process, in a project; check its exit code, return what it wrote."""
    out = io.StringIO()
    with contextlib.chdir(root), contextlib.redirect_stdout(out):
        found = build_app().main(args=list(arguments), prog_name="sia-flow", standalone_mode=False)
    assert (found if isinstance(found, int) else 0) == code, out.getvalue()
    return out.getvalue()


def refusal(root: Path, kind: type[Exception], *arguments: str) -> str:
    """Return the message with which a command refuses."""
    with pytest.raises(kind) as caught:
        call(root, *arguments)
    return str(caught.value)
