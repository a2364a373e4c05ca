"""Language models in a spec: short forms, what is refused, and what changes no digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sia_flow.spec.load import diff_specs, experiment_digest, load_experiments, resolved_json
from sia_flow.spec.models import Experiment
from sia_flow.spec.problems import InvalidSpecError

Write = Callable[..., Path]


def loaded(write: Write, *overrides: str) -> Experiment:
    return load_experiments(write(), overrides)[0]


def test_without_a_model_a_spec_is_what_it_was(write: Write) -> None:
    resolved = resolved_json(loaded(write))["spec"]
    assert resolved["agents"] == {"meta": {"type": "builtin"}, "feedback": {"type": "builtin"}}
    assert set(resolved["budget"]) == {"generations", "wall", "rollouts", "tokens", "usd"}


def test_a_model_alone_means_claude_and_one_choice_a_list(write: Write) -> None:
    agents = loaded(
        write, "agents.meta={effort: high}", "agents.feedback={models: {model: other, weight: 2}}"
    ).spec.agents
    assert (agents.meta.type, agents.meta.model, agents.meta.effort) == ("anthropic", "claude-sonnet-5-5", "high")
    assert agents.feedback.models is not None
    assert [(choice.model, choice.weight) for choice in agents.feedback.models] == [("other", 2.0)]
    assert loaded(write, "agents.feedback={rows: 3}").spec.agents.feedback.type == "learned"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agents.meta={type: builtin, model: m}", "agents.meta.model: builtin asks no model"),
        ("agents.feedback={type: learned, effort: low}", "agents.feedback.effort: learned asks no model"),
        ("agents.feedback={type: anthropic, rows: 8}", "agents.feedback.rows: anthropic keeps no ledger"),
        ("agents.meta={type: openai}", "agents.meta.model: name the model"),
        ("agents.meta={type: anthropic, models: [{type: openai}]}", "name the model"),
        ("agents.meta={type: anthropic, models: []}", "is empty"),
        ("agents.meta={api_key_env: sk-ant-api03-abcdef}", "never put a key here"),
        ("agents.meta={base_url: localhost}", "is no address of a server"),
        ("agents.meta={type: anthropic, temperature: 3}", "temperature"),
        ("agents.meta={type: claude}", "agents.meta.type"),
        ("budget.roles={judge: {usd: 1}}", "budget.roles"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(write: Write, override: str, words: str) -> None:
    with pytest.raises(InvalidSpecError, match=words) as caught:
        loaded(write, override)
    assert "api03" not in str(caught.value).split(": spec.", 1)[1]


CLAUDE = "agents={meta: {type: anthropic}, feedback: {type: anthropic}}"


@pytest.mark.parametrize(
    "override",
    [
        "agents.meta.base_url=http://gateway",
        "agents.meta.api_key_env=MINE",
        "agents.feedback.timeout=2m",
        "agents.feedback.retries=9",
        "agents.feedback.stream=false",
        "agents.feedback.cache=false",
        "budget.prices={m: {input: 1, output: 2}}",
    ],
)
def test_how_a_model_is_reached_and_what_it_costs_change_no_digest(write: Write, override: str) -> None:
    assert experiment_digest(loaded(write, CLAUDE)) == experiment_digest(loaded(write, CLAUDE, override))


def test_what_a_model_is_told_changes_the_digest(write: Write) -> None:
    digests = {
        experiment_digest(loaded(write, CLAUDE, *more))
        for more in ([], ["agents.meta.model=m"], ["agents.feedback.thinking=adaptive"], ["agents.feedback.turns=3"])
    }
    assert len(digests) == 4


def test_caps_extend_when_they_rise_or_fall_away(write: Write) -> None:
    low = resolved_json(loaded(write, CLAUDE, "budget={total: $1, roles: {meta: {usd: $1}}}"))
    high = resolved_json(loaded(write, CLAUDE, "budget={total: $2, roles: {meta: {usd: $2}}}"))
    free = resolved_json(loaded(write, CLAUDE))
    assert {change.effect for change in diff_specs(low, high)} == {"extends"}
    assert {change.effect for change in diff_specs(low, free)} == {"extends"}
    assert {change.effect for change in diff_specs(high, low)} == {"new run"}
