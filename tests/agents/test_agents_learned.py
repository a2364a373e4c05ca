"""The learned Feedback-Agent: when it keeps the table's decision, and when it overrides it."""

import numpy as np
import pytest

from sia_flow.agents.bandit import DRAWS, FLOOR, LEVEL, NOISE, chances, drawn, prior, regress
from sia_flow.agents.builtin import feedback_agent
from sia_flow.agents.feedback import BuiltinFeedbackAgent
from sia_flow.agents.knowledge import LEAST, Knowledge
from sia_flow.agents.learned import LearnedFeedbackAgent
from sia_flow.agents.levers import PATIENCE
from tests.agents.pulls import row
from tests.agents.world import Arm

TABLE = BuiltinFeedbackAgent()


def rows_for(evidence, gains, count=12):
    """Rows of each action at about the evidence's own features."""
    seen = TABLE.decide(evidence).features
    random = np.random.default_rng(0)
    return [
        row(action, gain + random.normal(0, 0.002), {**seen, "skew": seen["skew"] + random.normal(0, 0.1)}, number=i)
        for action, gain in gains.items()
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def evidence():
    """What the table answers with constants: an arm's first pull."""
    return Arm(trials=2).evidence()


@pytest.mark.parametrize("count", [0, LEAST - 1])
def test_with_too_few_rows_the_table_decides_and_the_reason_says_so(evidence, count):
    rows = rows_for(evidence, {"harness-constants": 0.0, "weights-grpo": 0.1}, count)
    decision, advice = LearnedFeedbackAgent(rows).decide(evidence), TABLE.decide(evidence)
    kept = {"lever", "edits", "weights", "forecast", "features", "draw"}
    assert decision.model_dump(include=kept) == advice.model_dump(include=kept)
    assert f"too little: it has {count} of the {LEAST} pulls of harness-constants that it takes" in decision.reason
    assert decision.reason in decision.report


def test_a_known_table_pull_stands_while_nothing_else_is_known(evidence):
    decision = LearnedFeedbackAgent(rows_for(evidence, {"harness-constants": -0.05})).decide(evidence)
    assert (decision.action, decision.draw) == ("harness-constants", None)
    assert "it has 0 of the 8 pulls of harness-structure" in decision.reason


@pytest.mark.parametrize("better", ["weights-entropic", "weights-grpo", "harness-structure"])
def test_a_pull_that_gained_more_overrides_the_table(evidence, better):
    gains = {"harness-constants": -0.02, better: 0.05}
    decision = LearnedFeedbackAgent(rows_for(evidence, gains)).decide(evidence)
    assert decision.action == better
    assert decision.draw.table == "harness-constants"
    assert decision.draw.chances[better] > 0.8
    assert sum(decision.draw.chances.values()) == pytest.approx(1.0)
    assert f"overrides the table with {better}" in decision.reason
    assert decision.features["forecast"] == decision.forecast
    if decision.weights:
        assert (decision.weights.reason, decision.weights.iterations) == ("the ledger names it", 40)
    else:
        assert {edit.kind for edit in decision.edits} == {"structure"}


def test_the_ledger_may_agree_with_the_table(evidence):
    rows = rows_for(evidence, {"harness-constants": 0.05, "weights-grpo": -0.02})
    decision, advice = LearnedFeedbackAgent(rows).decide(evidence), TABLE.decide(evidence)
    assert (decision.edits, decision.draw.table) == (advice.edits, "harness-constants")
    assert "the ledger, too, drew harness-constants" in decision.reason


def test_equal_evidence_and_ledger_give_an_equal_decision(evidence):
    rows = rows_for(evidence, {"harness-constants": 0.0, "weights-grpo": 0.0, "harness-structure": 0.0})
    decision = LearnedFeedbackAgent(rows).decide(evidence)
    assert LearnedFeedbackAgent(rows).decide(evidence) == decision
    taken = {LearnedFeedbackAgent(rows).decide(Arm(trials=2).evidence(seed=seed)).action for seed in range(8)}
    assert len(taken) > 1


def test_it_pulls_no_lever_that_the_arm_has_not_and_no_algorithm_off_the_menu():
    for changes, allowed in (
        ({"levers": ("harness",)}, {"harness-constants", "harness-structure"}),
        ({"levers": ("weights",), "menu": ("grpo", "entropic")}, {"weights-grpo", "weights-entropic"}),
    ):
        shown = Arm(trials=2, **changes).evidence()
        gains = dict.fromkeys(("harness-constants", "harness-structure", "weights-grpo", "weights-entropic"), 0.0)
        decision = LearnedFeedbackAgent(rows_for(shown, {**gains, "weights-dpo": 0.1})).decide(shown)
        assert set(decision.draw.chances) == allowed
        assert decision.action in allowed


def test_an_update_that_was_refused_is_not_drawn_again_on_the_same_incumbent():
    """The incumbent and so its features are what they were: the same draw would come again and again."""
    arm = Arm(trials=2)
    gains = {"harness-constants": -0.02, "weights-grpo": 0.05, "weights-entropic": -0.01}
    agent = LearnedFeedbackAgent(rows_for(arm.evidence(), gains))
    assert agent.decide(arm.evidence()).action == "weights-grpo"
    arm.pull("weights", -0.02)
    after = agent.decide(arm.evidence())
    assert after.draw is not None
    assert "weights-grpo" not in after.draw.chances
    assert "weights-entropic" in after.draw.chances
    arm.pull("harness", 0.03)
    assert "weights-grpo" in agent.decide(arm.evidence()).draw.chances


def test_a_stop_is_never_overridden():
    arm = Arm(levers=("harness",), trials=1)
    arm.play(TABLE, 20, lambda *_: 0.0)
    shown = arm.evidence()
    assert TABLE.decide(shown).lever == "stop"
    assert len(arm.history) > PATIENCE
    rows = rows_for(shown, {"harness-constants": 0.05, "harness-structure": 0.05})
    assert LearnedFeedbackAgent(rows).decide(shown) == TABLE.decide(shown)


def test_rows_that_disagree_wildly_are_no_knowledge(evidence):
    seen = TABLE.decide(evidence).features
    wild = [row("harness-constants", 5.0 * (-1) ** i, {**seen, "skew": 0.1 * i}, number=i) for i in range(LEAST)]
    assert "tell less than none" in Knowledge(wild).lacks(seen, "harness-constants")
    calm = [row("harness-constants", 0.01, {**seen, "skew": 0.1 * i}, number=i) for i in range(LEAST)]
    assert Knowledge(calm).lacks(seen, "harness-constants") == ""
    flat = {**seen, "sd": 0.0, "select_noise": 0.0}
    assert "do not vary" in Knowledge(calm).lacks(flat, "harness-constants")


def test_the_spec_s_number_of_rows_reaches_the_agent(evidence):
    rows = rows_for(evidence, {"harness-constants": -0.05, "weights-grpo": 0.1}, 3)
    assert feedback_agent("learned", rows).decide(evidence).draw is None
    assert feedback_agent("learned", rows, 3).decide(evidence).draw is not None


# --- the regression and the draw ------------------------------------------------------------------------------------


def test_one_entry_against_the_closed_form():
    gains, errors = np.array([0.4, 0.6, 0.2]), np.array([0.0, NOISE, 0.0])
    found = regress(np.ones((3, 1)), gains, errors)
    weights = np.array([1.0, 0.5, 1.0])
    precision = (NOISE / LEVEL) ** 2 + weights.sum()
    assert found.mean[0] == pytest.approx((weights * gains).sum() / precision)
    assert found.spread[0, 0] == pytest.approx(1 / precision)
    rest = (weights * gains**2).sum() - precision * found.mean[0] ** 2
    assert (found.shape, found.scale) == pytest.approx((3.0 + 1.5, 3.0 * NOISE**2 + rest / 2))
    assert found.width(np.ones(1)) == pytest.approx(np.sqrt(found.scale / found.shape / precision))


def test_many_rows_give_the_line_that_made_them():
    random = np.random.default_rng(0)
    contexts = np.column_stack([np.ones(500), random.normal(size=500)])
    gains = contexts @ [0.2, -0.3] + random.normal(0, 0.05, 500)
    found = regress(contexts, gains, np.zeros(500))
    assert found.mean == pytest.approx([0.2, -0.3], abs=0.02)
    assert found.width(contexts[0]) < prior(2).width(contexts[0]) / 20
    draws = found.draw(random, np.array([1.0, 1.0]), 4000)
    assert draws.mean() == pytest.approx(-0.1, abs=0.02)


def test_chances_have_a_floor_and_follow_the_gains():
    x = np.ones(1)
    beliefs = {name: regress(np.ones((50, 1)), np.full(50, g), np.zeros(50)) for name, g in (("a", 0.9), ("b", 0.0))}
    found = chances(beliefs, {"a": x, "b": x}, 1)
    assert found == pytest.approx({"a": 1 - FLOOR / 2, "b": FLOOR / 2}, abs=5 / DRAWS)
    equal = chances({"a": beliefs["b"], "b": beliefs["b"]}, {"a": x, "b": x}, 1)
    assert equal["a"] == pytest.approx(0.5, abs=0.05)


def test_an_action_is_drawn_as_often_as_its_chance_says():
    counts = [drawn({"a": 0.2, "b": 0.7, "c": 0.1}, seed) for seed in range(2000)]
    assert [counts.count(name) / 2000 for name in "abc"] == pytest.approx([0.2, 0.7, 0.1], abs=0.035)
