"""The task on its real verifier and sandbox; one warm session for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sia_flow.protocols import Limits
from sia_flow.sandbox.open import open_sandbox
from sia_flow.verify.task import Task, load_task
from sia_flow.verify.timed import TimedVerifier
from sia_flow.verify.timed_programs import TimedScorer

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def task() -> Task:
    return load_task(ROOT, "trimul")


@pytest.fixture(scope="session")
def verifier(task: Task, tmp_path_factory: pytest.TempPathFactory) -> TimedVerifier:
    folder = tmp_path_factory.mktemp("shapes")
    task.prepare("shapes", folder)
    return task.verifier(None, folder)


@pytest.fixture(scope="session")
def scorer(task: Task, verifier: TimedVerifier) -> Iterator[TimedScorer]:
    with TimedScorer(task, verifier, open_sandbox(1), Limits(wall=10, cpu=20)) as opened:
        yield opened
