"""The grid of scaffolds x adapters: what is there is not run again, what is missing is measured and kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.evaluate import Agent
from sia_flow.loop.grid import cost_of, grid_of, measure, neighbours
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import run_local
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments
from tests.flows.world import done_steps, generations, records
from tests.loop.conftest import Ran


@pytest.fixture
def root(ran: Ran, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran.root, tmp_path / "project", symlinks=True))


def lab_of(root: Path) -> Lab:
    (experiment,) = load_experiments(root / "specs" / "small.yaml", ["budget.generations=2"])
    return Lab(experiment, root, Store(Project(root).store))


def both(ran: Ran) -> ArmResult:
    """Return the result of an arm that pulled the harness and, from the same start, the weights."""
    harness, weights = ran.results["SIA-H"], ran.results["W"]
    assert harness.generations[0] == weights.generations[0]
    ids = (harness.generations[0], harness.generations[1], weights.generations[1])
    return weights.model_copy(update={"arm": "both", "generations": ids, "incumbent": ids[2]})


def test_cells_of_the_generations_are_there_and_only_the_rest_is_run(ran: Ran, root: Path) -> None:
    result, before = both(ran), records(root, "generations", "arms")
    with lab_of(root) as lab:
        first, harness, weights = (lab.store.generation(i) for i in result.generations)
        grid = grid_of(lab, result)
        assert list(grid.scaffolds.values()) == ["@0", "@1"]
        assert list(grid.adapters.values()) == ["base", "@1"]
        assert grid.missing == [Agent(harness.scaffold, weights.adapter)]
        for generation in (first, harness, weights):
            assert grid.cells[Agent(generation.scaffold, generation.adapter)] == generation.select
        cost = cost_of(lab, [grid])
        assert (cost.cells, cost.missing, cost.rollouts) == (4, 1, 4)
        assert cost.tokens > 0
        assert cost.seconds > 0
        count = len(done_steps(root))
        whole = measure(lab, run_local, grid)
        assert [step for step, _ in done_steps(root)[count:]] == ["rollout", "verify"]
        assert whole.missing == []
        found = whole.cells[grid.missing[0]]
        assert found is not None
        assert set(found.rewards) == set(first.select.rewards)
        assert grid_of(lab, result).cells == whole.cells
        assert cost_of(lab, [whole]).seconds == 0
    assert records(root, "generations", "arms") == before


def test_neighbours_are_the_one_before_and_those_tried_from_it(ran: Ran, root: Path) -> None:
    result = both(ran)
    with lab_of(root) as lab:
        first, harness, weights = (lab.store.generation(i) for i in result.generations)
        (found,) = neighbours(grid_of(lab, result))
        assert found == ("weights", "base, before it", Agent(first.scaffold, None))
        # Seen from the start, both were tried from it.
        start = result.model_copy(update={"incumbent": first.id})
        assert [(part, agent) for part, _, agent in neighbours(grid_of(lab, start))] == [
            ("scaffold", Agent(harness.scaffold, None)),
            ("weights", Agent(first.scaffold, weights.adapter)),
        ]
        history = generations(root, ran.results["W"])
        (before,) = neighbours(grid_of(lab, ran.results["W"]))
        assert before == ("weights", "@1, before it", Agent(history[2].scaffold, history[1].adapter))
