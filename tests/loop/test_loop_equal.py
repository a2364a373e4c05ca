"""Controls at equal spend: in rollouts, in tokens, and in dollars where the policy has a price."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sia_flow.errors import SpecError
from sia_flow.lineage.records import Spend
from sia_flow.lineage.store import Store
from sia_flow.loop.control import equal_draws
from sia_flow.loop.equal import Target, dearest, dollars, policy_rate
from sia_flow.plan.project import Project
from sia_flow.providers.prices import Rate
from sia_flow.spec.load import experiment_digest, load_experiments
from sia_flow.spec.models import Arm
from tests.flows.world import generations, records, run_here
from tests.loop.conftest import Ran

PRICED = "budget.prices={tiny-gpt-oss: {input: 1, output: 10}}"
ARMS = "arms=[SIA-H-equal, SIA-H, no-feedback-equal, {name: W, levers: [weights]}]"


def test_a_target_is_reached_in_everything_or_not_at_all() -> None:
    rate = Rate(1.0, 10.0, 0.1, 1.25)
    spend = Spend(rollouts=10, prompt_tokens=1_000_000, completion_tokens=100_000, usd=0.5)
    assert dollars(spend, rate) == pytest.approx(2.5)
    assert dollars(spend, None) == 0.5
    assert Target(10, 100_000, 2.5).reached(spend, rate)
    for short in (Target(11, 100_000, 2.5), Target(10, 100_001, 2.5), Target(10, 100_000, 2.6)):
        assert not short.reached(spend, rate)
    assert Target(10, 100_000, 0.0).reached(spend, None)


def test_a_price_is_the_spec_s_for_the_policy_and_no_other_model_s(ran: Ran) -> None:
    spec = ran.spec
    assert policy_rate(load_experiments(spec)[0].spec) is None
    assert policy_rate(load_experiments(spec, ["budget.prices={other: {input: 1, output: 2}}"])[0].spec) is None
    rate = policy_rate(load_experiments(spec, [PRICED])[0].spec)
    assert rate is not None
    assert (rate.input, rate.output) == (1.0, 10.0)


def test_equal_arms_run_after_the_others_and_spend_at_least_as_much(ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(ran.root, tmp_path, dirs_exist_ok=True, symlinks=True)
    spec, before = tmp_path / "specs" / "small.yaml", set(records(tmp_path, "generations"))
    results = {result.arm: result for result in run_here(spec, ARMS, "budget.generations=2")}
    assert list(results) == ["SIA-H", "W", "SIA-H-equal", "no-feedback-equal"]
    assert {name: results[name] for name in ("SIA-H", "W")} == {name: ran.results[name] for name in ("SIA-H", "W")}
    target = dearest(load_experiments(spec)[0].spec, [results["SIA-H"], results["W"]])
    assert target.rollouts == results["W"].spend.rollouts > results["SIA-H"].spend.rollouts
    for name in ("SIA-H-equal", "no-feedback-equal"):
        found = results[name]
        assert target.reached(found.spend, None), name
        assert found.stopped == "equal spend"
        # It ended with the generation that reached it, not later.
        last = generations(tmp_path, found)[-1].spend
        short = Spend(**{k: getattr(found.spend, k) - getattr(last, k) for k in ("rollouts", "completion_tokens")})
        assert not target.reached(short, None), name
    # The same loop as the arm without the target, only longer: its generations are shared.
    assert results["SIA-H-equal"].generations[:3] == results["SIA-H"].generations
    assert before < set(records(tmp_path, "generations"))


def test_dollars_of_agents_buy_draws_where_the_policy_has_a_price(ran: Ran) -> None:
    result, store = ran.results["SIA-H"], Store(Project(ran.root).store)
    free, priced = (load_experiments(ran.spec, options)[0].spec for options in ([], [PRICED]))
    assert equal_draws(free, store, [result]) == equal_draws(priced, store, [result])
    paid = result.model_copy(update={"spend": result.spend.model_copy(update={"usd": 1.0})})
    assert equal_draws(free, store, [paid]) == equal_draws(free, store, [result])
    draws = equal_draws(priced, store, [paid])
    first = store.generation(result.generations[0]).spend
    each = dollars(first, policy_rate(priced)) / first.rollouts
    assert draws * each >= 1.0 + dollars(result.spend, policy_rate(priced)) > (draws - 1) * each


def test_an_equal_arm_is_no_short_name_for_another_and_old_arms_keep_their_digests(ran: Ran) -> None:
    spec = ran.spec
    assert Arm.model_validate("SIA-H").model_dump() == {"name": "SIA-H", "levers": ("harness",), "control": None}
    assert Arm.model_validate("SIA-W-equal").spend == "dearest"
    (old,) = load_experiments(spec)
    (same,) = load_experiments(spec, ["arms=[{name: SIA-H, levers: [harness], spend: budget}]"])
    assert experiment_digest(old) == experiment_digest(same)
    for arms, words in (
        ("[{name: SIA-H, levers: [harness], spend: dearest}]", "short name of another arm"),
        ("[{name: b, control: best-of-n, spend: dearest}, SIA-H]", "drop spend"),
        ("[SIA-H-equal, no-feedback-equal]", "add an arm with a budget of its own"),
    ):
        with pytest.raises(SpecError, match=words):
            load_experiments(spec, [f"arms={arms}"])
