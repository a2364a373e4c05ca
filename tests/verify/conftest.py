from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sia_flow.protocols import Limits, Sandbox, Verifier
from sia_flow.sandbox.open import open_sandbox
from sia_flow.verify.programs import ProgramScorer
from sia_flow.verify.task import Task, load_task

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def task() -> Task:
    return load_task(ROOT, "denoise")


@pytest.fixture(scope="session")
def data_dir(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counts")
    random = np.random.default_rng(5)
    rates = np.exp(random.normal(0.5, 1.0, (1, 40)) + random.normal(0, 0.6, (4, 1, 40)).repeat(20, 1).reshape(80, 40))
    np.savez(folder / "small.npz", counts=random.poisson(rates))
    task.prepare(str(folder / "small.npz"), folder / "out")
    return folder / "out"


@pytest.fixture(scope="session")
def verifier(task: Task, data_dir: Path) -> Verifier:
    return task.verifier("sia", data_dir)


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return open_sandbox(1)


@pytest.fixture
def scorer(task: Task, verifier: Verifier, sandbox: Sandbox) -> Iterator[ProgramScorer]:
    with ProgramScorer(task, verifier, sandbox, Limits(wall=5, cpu=2)) as found:
        yield found


@pytest.fixture(scope="session")
def shared_scorer(task: Task, verifier: Verifier, sandbox: Sandbox) -> Iterator[ProgramScorer]:
    with ProgramScorer(task, verifier, sandbox, Limits(wall=5, cpu=2)) as found:
        yield found
