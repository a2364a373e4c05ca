"""A small project for each test, and one whose run several tests look at."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.flows.once import made_once
from tests.flows.world import make_project, run_here

ARMS = "arms=[SIA-H, {name: W, levers: [weights]}, no-feedback]"


class Ran(NamedTuple):
    """A project after a run."""

    spec: Path
    root: Path
    results: dict[str, Any]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two generations of three arms; nobody changes it."""
    asked = (ARMS, "budget.generations=2")
    made = made_once("grown", lambda folder: run_here(make_project(folder), *asked))
    root = tmp_path_factory.mktemp("ran")
    shutil.copytree(made, root, dirs_exist_ok=True)
    spec = root / "specs/small.yaml"
    results = run_here(spec, *asked)
    return Ran(spec, root, {result.arm: result for result in results})
