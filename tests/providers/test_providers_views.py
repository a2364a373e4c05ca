"""What of the money is seen: the plan's forecast, the status by role, the limits that end an arm."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from flows.improve import control, improve
from sia_flow.cli.plan import plan_json
from sia_flow.cli.spend import spend_by_role, spend_lines
from sia_flow.errors import SpecError
from sia_flow.lineage.records import Spend
from sia_flow.loop.arm import ArmState
from sia_flow.loop.books import journal_of
from sia_flow.loop.gpu import gpu_seconds, spent_gpu
from sia_flow.loop.lab import Lab
from sia_flow.loop.stopping import spent
from sia_flow.plan.forecast import ArmPlan, ReplayStore, forecast
from sia_flow.plan.project import Project
from sia_flow.providers.journal import Account
from sia_flow.spec.load import load_experiments
from sia_flow.spec.loop import Budget
from tests.flows.world import make_project
from tests.providers.books import entry

CLAUDE = "agents={meta: {type: anthropic}, feedback: {type: anthropic}}"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("plan"))


def plan(spec: Path, *overrides: str) -> list[ArmPlan]:
    (experiment,) = load_experiments(spec, list(overrides))
    with Lab(experiment, spec.parents[1], ReplayStore(Project(spec.parents[1]).store)) as lab:
        return forecast(lab, improve, control)


def test_the_plan_forecasts_the_bill_without_a_key_low_and_high(spec: Path) -> None:
    (free,) = plan(spec)
    assert free.usd == (0.0, 0.0)
    (one,) = plan(spec, CLAUDE, "budget={usd: $100, generations: 1}")
    (three,) = plan(spec, CLAUDE, "budget={usd: $100, generations: 3}")
    assert 0 < one.usd.low < one.usd.high
    assert three.usd.high - one.usd.high == pytest.approx(one.usd.high)
    (capped,) = plan(spec, CLAUDE, "budget={usd: $0.5, generations: 3}")
    assert capped.usd == (pytest.approx(three.usd.low), 0.5)
    unknown = "agents.feedback={type: openai, model: mine}"
    (unlimited,) = plan(spec, unknown, "budget={usd: unlimited, generations: 3}")
    assert math.isinf(unlimited.usd.high)
    assert json.loads(json.dumps(plan_json(unlimited)))["usd"] == [0.0, None]
    with pytest.raises(SpecError, match="price of mine is not known"):
        plan(spec, unknown, "budget.usd=$1")


def test_controls_pay_for_no_decision(spec: Path) -> None:
    arm, blind = plan(spec, CLAUDE, "budget={usd: $100, generations: 3}", "arms=[SIA-H, no-feedback]")
    assert 0 < blind.usd.high < arm.usd.high


def test_status_shows_what_each_role_took(tmp_path: Path) -> None:
    spec = make_project(tmp_path)
    (experiment,) = load_experiments(spec, [CLAUDE])
    state = Project(tmp_path).state
    assert spend_by_role(state, "small") == []
    journal = journal_of(state, experiment)
    meta = journal.reserve(entry(0.5, 900, Account(None, 0, "meta")))
    journal.settle(meta, 0.02, 400)
    journal.lose(journal.reserve(entry(0.5, 900, Account("SIA-H", 0, "feedback"))))
    journal.release(journal.reserve(entry(9.0, 9, Account("SIA-H", 0, "feedback"))))
    feedback, wrote = spend_by_role(state, "small")
    assert (wrote["role"], wrote["calls"], wrote["usd"], wrote["tokens"]) == ("meta", 1, 0.02, 400)
    assert (feedback["usd"], feedback["unsettled"]) == (0.5, 1)
    assert spend_lines([feedback]) == [
        "  feedback: claude-sonnet-5-5, 1 calls, 900 tokens, $0.5000, 1 counted as reserved"
    ]
    (other,) = load_experiments(spec, [CLAUDE, "arms=[SIA-W]", "budget.usd=$9"])
    (changed,) = load_experiments(spec, [CLAUDE, "accept.k=2"])
    assert journal_of(state, other).path == journal.path != journal_of(state, changed).path


def test_a_total_alone_lets_an_arm_spend() -> None:
    assert spent(Budget.model_validate({"total": 5.0}), Spend(usd=1.0)) is None
    assert spent(Budget.model_validate({"total": 5.0, "usd": 0.5}), Spend(usd=1.0)) == "budget.usd"
    assert spent(Budget.model_validate({}), Spend(usd=1.0)) == "budget.usd"


def test_gpu_time_is_that_of_the_arm_s_own_steps(spec: Path) -> None:
    done = [{"event": "done", "step": "rollout", "key": key, "seconds": 2.5} for key in ("a", "b", "c")]
    started = [{"event": "start", "step": "rollout", "key": "a"}]
    assert gpu_seconds([*done, *started], {"a", "b"}, 2) == 10.0
    assert gpu_seconds(done, {"a"}, 0) == 0.0
    (experiment,) = load_experiments(spec, ["budget.gpu=1s"])
    with Lab(experiment, spec.parents[1], ReplayStore(Project(spec.parents[1]).store)) as lab:
        assert spent_gpu(lab, ArmState(experiment.spec.arms[0], 0)) is None
