"""Made-up cases, prepared once, and what stands on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.verify.task import Task, load_task
from tasks.lawbench import data
from tasks.lawbench.data import DataSet
from tasks.lawbench.verifier import LawBenchVerifier

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cases")
    data.prepare("synthetic", out)
    return out


@pytest.fixture(scope="session")
def cases(folder: Path) -> DataSet:
    return data.load(folder)


@pytest.fixture(scope="session")
def task() -> Task:
    return load_task(ROOT, "lawbench")


@pytest.fixture(scope="session")
def verifier(folder: Path) -> LawBenchVerifier:
    return LawBenchVerifier("exact", folder)
