"""A lab on a small project: its engine, its policy, one train instance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sia_flow.lineage.store import Store
from sia_flow.loop.lab import Lab
from sia_flow.spec.load import load_experiments
from tests.flows.world import make_project

OVERRIDES = ["sandbox.wall=2s", "policy.max_tokens=64"]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("rollout")
    (experiment,) = load_experiments(make_project(root), OVERRIDES)
    with Lab(experiment, root, Store(root / ".sia-flow/store")) as opened:
        yield opened
