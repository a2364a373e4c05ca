"""Which model takes a task, and how a spec's section becomes settings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sia_flow.providers.choice import Standing, chances, drawn
from sia_flow.providers.cost import task_cost
from sia_flow.providers.prices import TABLE, demand_price
from sia_flow.providers.settings import Choice, ModelSettings, choices_of
from sia_flow.spec.actors import FeedbackAgentSpec
from sia_flow.spec.load import load_experiments
from tests.flows.world import ROOT

DEAR, CHEAP = "claude-opus-5-5", "claude-haiku-5-5"


def choice(model: str, weight: float = 1.0) -> Choice:
    return Choice(ModelSettings(type="anthropic", model=model, api_key_env="K"), weight)


def test_without_thrift_weights_alone_count() -> None:
    found = chances([choice(DEAR, 3), choice(CHEAP)], [TABLE[DEAR], TABLE[CHEAP]], [Standing(9, 0)] * 2, 0)
    assert found == [0.75, 0.25]


def test_thrift_prefers_the_cheap_until_the_dear_one_earns_it() -> None:
    both, rates = [choice(DEAR), choice(CHEAP)], [TABLE[DEAR], TABLE[CHEAP]]
    even = chances(both, rates, [Standing(), Standing()], 1.0)
    assert even == pytest.approx([1 / 41, 40 / 41], rel=0.05)
    mild = chances(both, rates, [Standing(), Standing()], 0.2)
    earned = chances(both, rates, [Standing(8, 8), Standing(8, 0)], 0.2)
    assert even[0] < mild[0] < 0.5 < earned[0]


def test_an_unknown_or_zero_price_takes_prices_out_of_the_choice() -> None:
    both = [choice("mine"), choice(CHEAP)]
    assert chances(both, [None, TABLE[CHEAP]], [Standing()] * 2, 1.0) == [0.5, 0.5]


def test_draws_follow_the_chances_and_the_seed() -> None:
    found = Counter(drawn([0.8, 0.2], seed) for seed in range(400))
    assert 280 < found[0] < 360
    assert drawn([0.5, 0.5], "x") == drawn([0.5, 0.5], "x")


def test_choices_inherit_from_the_role_but_never_another_provider_s_address() -> None:
    section = FeedbackAgentSpec.model_validate(
        {
            "type": "anthropic",
            "effort": "high",
            "base_url": "http://gateway",
            "api_key_env": "MINE",
            "models": [{"weight": 2.0}, {"model": "local", "type": "openai", "max_tokens": 400}],
        }
    )
    claude, local = (choice.settings for choice in choices_of("anthropic", section))
    assert (claude.model, claude.base_url, claude.api_key_env) == ("claude-sonnet-5-5", "http://gateway", "MINE")
    assert (local.type, local.base_url, local.api_key_env) == ("openai", None, "OPENAI_API_KEY")
    assert (claude.effort, local.effort, local.max_tokens) == ("high", "high", 400)
    assert (claude.max_tokens, claude.retries, claude.stream) == (16_000, 4, True)


def test_a_task_costs_more_with_more_turns_and_evidence() -> None:
    low, high = task_cost(TABLE[DEAR], 24_000, 24)
    assert 0 < low < high
    assert task_cost(TABLE[DEAR], 24_000, 12)[1] < high
    assert task_cost(TABLE[DEAR], 12_000, 24)[0] < low
    assert task_cost(TABLE[CHEAP], 24_000, 24)[1] < high / 30


@pytest.mark.parametrize(("name", "model"), [("claude", "claude-sonnet-5-5"), ("paper", "claude-sonnet-4-6")])
def test_a_profile_is_laid_over_a_spec(tmp_path: Path, name: str, model: str) -> None:
    over = tmp_path / "over.yaml"
    files = [str(ROOT / "specs" / file) for file in ("denoise.yaml", f"profiles/{name}.yaml")]
    over.write_text(f"extends: [{', '.join(files)}]\nmetadata: {{name: over}}\n")
    (experiment,) = load_experiments(over, [])
    agents, budget = experiment.spec.agents, experiment.spec.budget
    assert (agents.meta.type, agents.meta.model, agents.feedback.model) == ("anthropic", model, model)
    assert budget.usd == 5.0
    assert budget.generations == 5
    assert demand_price(model, budget.prices, budget.usd) is not None
