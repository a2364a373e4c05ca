"""A tiny base that has learnt the small language, built once for the folder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.tiny import build_tiny
from tests.policy.world import SMALL, corpus, moved


@pytest.fixture(scope="session")
def pairs() -> list[tuple[str, str]]:
    return corpus(0, 1000)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt-oss"
    build_tiny(pairs, folder, SMALL)
    return folder


@pytest.fixture(scope="session")
def policy(base: Path) -> LocalPolicy:
    return LocalPolicy.load(base)


@pytest.fixture
def moved_policy(base: Path) -> LocalPolicy:
    return moved(base)
