"""A small project for each test, and one whose run several tests look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

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
    root = tmp_path_factory.mktemp("ran")
    spec = make_project(root)
    results = run_here(spec, ARMS, "budget.generations=2")
    return Ran(spec, root, {result.arm: result for result in results})
