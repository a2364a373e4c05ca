"""The plan: it runs nothing, and what it says of the work left is what an apply then does."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.improve import control, improve
from sia_flow.errors import SpecError
from sia_flow.loop.lab import Lab
from sia_flow.plan.forecast import ArmPlan, ReplayStore, forecast
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments
from tests.flows.world import journal, make_project, records, run_here


def plans(spec: Path, *overrides: str) -> list[ArmPlan]:
    (experiment,) = load_experiments(spec, list(overrides))
    with Lab(experiment, spec.parents[1], ReplayStore(Project(spec.parents[1]).store)) as lab:
        found = forecast(lab, improve, control)
        assert "sandbox" not in vars(lab)
        assert lab._policies == {}
        return found


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_project(tmp_path_factory.mktemp("plan"))
    run_here(path)
    return path


def test_before_anything_ran(tmp_path: Path) -> None:
    spec = make_project(tmp_path)
    harness, weights, best = plans(spec, "arms=[best-of-n, SIA-H, SIA-W]")
    assert [p.arm for p in (harness, weights, best)] == ["SIA-H", "SIA-W", "best-of-n"]
    assert all(p.result is None and p.history == () for p in (harness, weights, best))
    assert best.next == "waits for the other arms"
    assert 0 < harness.rollouts.low < harness.rollouts.high
    assert weights.rollouts.low >= 2 * 2 * 3
    assert not (tmp_path / ".sia-flow/store/steps").exists()


def test_a_finished_arm_costs_nothing(spec: Path) -> None:
    (plan,) = plans(spec)
    assert plan.result is not None
    assert (plan.generations, plan.next, plan.rollouts) == (2, "", (0, 0))


def test_the_forecast_holds_what_a_run_took(tmp_path: Path, spec: Path) -> None:
    (plan,) = plans(make_project(tmp_path))
    (done,) = plans(spec)
    assert done.result is not None
    assert plan.rollouts.low <= done.result.spend.rollouts + 4 <= plan.rollouts.high


def test_a_longer_budget_leaves_only_what_is_new(spec: Path) -> None:
    before, log = records(spec.parents[1]), journal(spec.parents[1])
    (whole,) = plans(spec, "budget.generations=3", "seeds=[5]")
    (rest,) = plans(spec, "budget.generations=3")
    assert (rest.result, rest.generations) == (None, 2)
    assert rest.cached > 5
    assert rest.rollouts.high < whole.rollouts.high
    assert "gen 2" in rest.next
    assert (records(spec.parents[1]), journal(spec.parents[1])) == (before, log)


def test_an_arm_that_only_its_result_is_missing_of_is_work(tmp_path: Path) -> None:
    """Planning must not close an arm: nobody would be told, and its views would never be written."""
    spec = make_project(tmp_path)
    (result,) = run_here(spec)
    arm = tmp_path / f".sia-flow/store/arms/{result.key}.json"
    data = arm.read_bytes()
    arm.unlink()
    (plan,) = plans(spec)
    assert (plan.result, plan.next) == (None, "SIA-H seed 0 result")
    assert not arm.exists()
    log = journal(tmp_path)
    run_here(spec)
    assert arm.read_bytes() == data
    assert journal(tmp_path) == log


def test_a_project_is_found_from_below_and_nowhere_else(spec: Path, tmp_path: Path, monkeypatch) -> None:
    assert Project.find(spec).root == spec.parents[1].resolve()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="sia-flow init"):
        Project.find(tmp_path)
