"""What a rollout takes: read off the project's own generations, and off nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.cli.plan import _show
from sia_flow.lineage.store import Store
from sia_flow.loop.lab import Lab
from sia_flow.plan.forecast import WAITS, ArmPlan
from sia_flow.plan.rates import DENOISE, LEAST, Range, rates_of
from sia_flow.spec.load import load_experiments
from tests.flows.world import make_project, run_here


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    path = make_project(tmp_path_factory.mktemp("rates"))
    run_here(path, f"budget.generations={LEAST - 1}")
    (experiment,) = load_experiments(path, [])
    return Lab(experiment, path.parents[1], Store(path.parents[1] / ".sia-flow/store"))


def test_without_a_past_the_figures_are_those_of_denoise(tmp_path: Path, lab: Lab) -> None:
    assert rates_of(Store(tmp_path), lab.inputs) == DENOISE


def test_rates_are_those_of_this_projects_generations(lab: Lab) -> None:
    found = rates_of(lab.store, lab.inputs)
    assert found.update == DENOISE.update
    spends = [generation.spend for generation in lab.store.generations()]
    tokens = sorted((spend.prompt_tokens + spend.completion_tokens) / spend.rollouts for spend in spends)
    assert len(tokens) == LEAST
    assert tokens[0] <= found.trial.tokens.low <= found.trial.tokens.high <= tokens[-1]
    timed = sum(float(entry.get("seconds", 0)) for entry in lab.store.journal())
    assert 0 < found.trial.seconds.low * min(spend.rollouts for spend in spends) < timed


@pytest.mark.parametrize("name", ["base", "data", "verifier"])
def test_generations_of_another_kind_say_nothing(lab: Lab, name: str) -> None:
    assert rates_of(lab.store, {**lab.inputs, name: "0" * 64}) == DENOISE


def test_a_plan_fits_a_terminal_of_80(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    free = Range(0, 0)
    rows = [
        ArmPlan("SIA-W+H", 11, None, 36, ("a",), "SIA-W+H seed 11 gen 6 train", Range(896, 20096), free, free),
        ArmPlan("no-feedback-equal", 11, None, 0, (), WAITS, Range(0, 24e3), Range(0, 4.6e6), Range(0, 3100)),
    ]
    _show("any", rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    row = next(line for line in lines if "SIA-W+H" in line)
    assert row.split() == ["SIA-W+H", "11", "36", "gen", "6", "train", "896-20k", "0", "0.0-0.0", "$0.00"]
    assert "0-4.6M" in lines[5]
