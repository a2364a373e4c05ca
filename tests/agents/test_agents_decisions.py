"""The builtin Feedback-Agent on arms that grow as the loop would make them grow."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.agents.builtin import feedback_agent
from sia_flow.agents.decision import FeedbackAgent
from sia_flow.agents.feedback import BuiltinFeedbackAgent, select_noise
from sia_flow.agents.levers import PATIENCE
from sia_flow.errors import SpecError, TrainingError
from sia_flow.lineage.records import Spend
from sia_flow.scaffold.contract import check
from tests.agents.world import SE, Arm

AGENT: FeedbackAgent = BuiltinFeedbackAgent()
GAINS = st.lists(st.sampled_from([-0.03, -0.005, 0.0, 0.005, 0.03]), min_size=1, max_size=5)


def by_lever(harness, weights):
    return lambda decision, arm: weights if decision.lever == "weights" else harness


def kinds(arm):
    return [g.decision.edits[0].kind if g.decision.edits else "weights" for g in arm.history[1:]]


def test_the_first_pull_turns_constants_and_offers_alternatives():
    arm = Arm(trials=6)
    decision = AGENT.decide(arm.evidence())
    assert decision.lever == "harness"
    assert {edit.kind for edit in decision.edits} == {"constants"}
    assert len({edit.name for edit in decision.edits}) == 6
    for edit in decision.edits:
        assert check({**arm.files[arm.incumbent.id], **edit.files}) == []


@pytest.mark.parametrize(("harness", "weights"), [(0.03, 0.03), (0.0, 0.03), (0.03, 0.0), (0.0, 0.0), (-0.03, -0.03)])
def test_with_both_levers_the_weights_come_by_the_second_pull_and_again(harness, weights):
    arm = Arm()
    pulled = arm.play(AGENT, 5, by_lever(harness, weights))
    assert pulled[:2] == ["harness", "weights"]
    assert pulled.count("weights") >= 2


def test_the_levers_alternate_while_both_pay():
    assert Arm().play(AGENT, 6, by_lever(0.03, 0.03)) == ["harness", "weights"] * 3


def test_a_clear_loss_of_the_harness_hands_over_at_once():
    assert Arm().play(AGENT, 2, by_lever(-0.03, 0.0)) == ["harness", "weights"]


@settings(max_examples=8, deadline=None)
@given(GAINS)
def test_an_arm_never_pulls_a_lever_that_it_has_not(gains):
    for levers, other in ((("harness",), "weights"), (("weights",), "harness")):
        shown = iter(gains)
        pulled = Arm(levers=levers, trials=1).play(AGENT, len(gains), lambda *_, shown=shown: next(shown))
        assert not {other, "both"} & set(pulled)
    assert AGENT.decide(Arm(levers=()).evidence()).lever == "stop"


@settings(max_examples=8, deadline=None)
@given(GAINS)
def test_no_refused_plan_is_repeated(gains):
    arm, shown = Arm(trials=2), iter(gains)
    arm.play(AGENT, len(gains), lambda *_: next(shown))
    seen = set()
    for generation in arm.history[1:]:
        plan = generation.decision.weights
        parts = (
            (plan.algorithm, plan.learning_rate)
            if plan
            else tuple(e.files["scaffold.py"] for e in generation.decision.edits)
        )
        for part in [parts] if plan else parts:
            assert (generation.parent, part) not in seen
            seen.add((generation.parent, part))


def test_equal_evidence_gives_an_equal_decision():
    arm = Arm()
    assert AGENT.decide(arm.evidence()) == BuiltinFeedbackAgent().decide(arm.evidence())
    assert AGENT.decide(arm.evidence(seed=8)).edits != AGENT.decide(arm.evidence()).edits


def test_constants_and_structure_take_turns_where_the_gate_refuses():
    arm = Arm(levers=("harness",))
    arm.play(AGENT, 3, by_lever(0.005, 0.0))
    assert kinds(arm) == ["constants", "structure", "constants"]


def test_an_exhausted_arm_stops_and_not_before():
    arm = Arm(levers=("harness",))
    pulled = arm.play(AGENT, 10, by_lever(0.0, 0.0))
    assert pulled[-1] == "stop"
    assert len(pulled) > PATIENCE
    reason = AGENT.decide(arm.evidence()).reason
    assert f"{len(pulled) - 1} generations in a row were refused" in reason


def test_an_improving_arm_never_stops():
    assert "stop" not in Arm(levers=("harness",), trials=2).play(AGENT, 7, by_lever(0.03, 0.0))
    assert "stop" not in Arm(levers=("weights",)).play(AGENT, 7, by_lever(0.0, 0.03))


def test_edits_that_multiply_completions_wait_for_two_weight_updates():
    arm = Arm(trials=3)
    pulled = arm.play(AGENT, 8, by_lever(0.005, 0.03))
    second = [i for i, lever in enumerate(pulled) if lever == "weights"][1]
    names = [{edit.name.split()[0] for edit in g.decision.edits} for g in arm.history[1:]]
    early, late = set().union(*names[:second]), set().union(*names[second:])
    assert not {"best-of-n", "refine"} & early
    assert {"best-of-n", "refine"} & late


@pytest.mark.parametrize(("worst", "tried"), [(0.05, False), (0.0, True)])
def test_an_edit_that_promises_nothing_is_not_tried(worst, tried):
    """Where every rollout is valid there is nothing to retry."""
    arm = Arm(levers=("harness",), rewards=(worst, 0.06, 0.07, 0.08), trials=9)
    arm.pull("harness", 0.03)
    edits = AGENT.decide(arm.evidence(noise=1e-4)).edits
    assert ("retry" in {edit.name for edit in edits}) == tried


def test_training_waits_while_a_rollout_is_dear_and_an_edit_is_left():
    arm = Arm(first_tokens=10)
    arm.play(AGENT, 3, by_lever(0.03, 0.03))
    assert AGENT.decide(arm.evidence()).lever == "weights"
    trajectories = [t.model_copy(update={"spend": Spend(completion_tokens=30)}) for t in arm.evidence().trajectories]
    dear = AGENT.decide(arm.evidence(trajectories=trajectories))
    assert dear.lever == "harness"
    assert "a rollout samples 3.0 times what it did" in dear.reason


def test_a_harness_arm_takes_them_at_once():
    arm = Arm(levers=("harness",))
    arm.play(AGENT, 2, by_lever(0.005, 0.0))
    assert {"best-of-n", "refine"} <= {edit.name for edit in arm.history[2].decision.edits}


def test_the_algorithm_is_chosen_by_the_rewards_and_told():
    skewed = (0.05, 0.05, 0.05, 0.05, 0.06, 0.06, 0.06, 0.9)
    plan = AGENT.decide(Arm(levers=("weights",), rewards=skewed).evidence()).weights
    assert plan.algorithm == "entropic"
    assert "right-skewed" in plan.reason
    even = AGENT.decide(Arm(levers=("weights",), rewards=(0.0, 0.1, 0.2, 0.3)).evidence()).weights
    assert (even.algorithm, even.iterations, even.learning_rate, even.kl) == ("grpo", 40, 1e-3, 0.02)


def test_a_pinned_algorithm_is_taken():
    plan = AGENT.decide(Arm(levers=("weights",), menu=("best_of_n_bc",)).evidence()).weights
    assert (plan.algorithm, plan.reason) == ("best_of_n_bc", "the spec names it")


def test_a_chooser_that_leaves_the_menu_is_an_error():
    with pytest.raises(TrainingError, match="the chooser named 'magic'"):
        AGENT.decide(Arm(levers=("weights",)).evidence(choose=lambda *_: ("magic", "")))


def test_a_refused_algorithm_gives_way_to_the_others_of_the_menu():
    arm = Arm(levers=("weights",), menu=("grpo", "dpo"))
    plans = []
    for _ in range(3):
        plans.append(AGENT.decide(arm.evidence()).weights)
        arm.pull("weights", -0.02, plan=plans[-1])
    assert [(plan.algorithm, plan.learning_rate) for plan in plans] == [("grpo", 1e-3), ("dpo", 1e-3), ("grpo", 0.5e-3)]
    assert "grpo gained too little here" in plans[1].reason
    again = Arm(levers=("weights",), menu=("grpo", "dpo"))
    again.pull("weights", -0.02, plan=plans[0])
    again.pull("weights", 0.05, plan=plans[1])
    assert AGENT.decide(again.evidence()).weights.algorithm == "grpo"


@pytest.mark.parametrize(
    ("gains", "rate"), [([-0.02], 0.5), ([-0.02, -0.02], 0.25), ([0.005], 1.5), ([-0.02, 0.03], 1.0)]
)
def test_the_learning_rate_follows_what_the_last_updates_did(gains, rate):
    arm = Arm(levers=("weights",), menu=("grpo",))
    for gain in gains:
        arm.pull("weights", gain)
    assert AGENT.decide(arm.evidence()).weights.learning_rate == pytest.approx(1e-3 * rate)


def test_the_forecast_of_weights_is_the_room_above_the_mean_scaled_by_history():
    arm = Arm(levers=("weights",))
    first = AGENT.decide(arm.evidence())
    assert first.forecast == pytest.approx(first.features["upper"] - first.features["mean"])
    arm.apply(first, 0.0)
    second = AGENT.decide(arm.evidence())
    assert second.forecast == pytest.approx(first.forecast / 2)
    assert f"{second.forecast:+.4f}" in second.reason


def test_the_noise_of_the_verifier_is_a_floor_under_the_errors():
    arm = Arm()
    assert select_noise(arm.evidence()) == pytest.approx(2**0.5 * SE)
    assert select_noise(arm.evidence(noise=0.5)) == 0.5
    arm.pull("harness", 0.03)
    assert AGENT.decide(arm.evidence()).features["harness_stalled"] == 0
    assert AGENT.decide(arm.evidence(noise=0.05)).features["harness_error"] == 0.05


def test_a_scaffold_without_anything_to_edit_leaves_the_weights_or_stops():
    bare = {"scaffold.py": "def solve(job):\n    return ''\n"}
    assert AGENT.decide(Arm().evidence(scaffold=bare)).lever == "weights"
    assert AGENT.decide(Arm(levers=("harness",)).evidence(scaffold=bare)).lever == "stop"


def test_the_type_that_a_spec_names_gives_the_agent():
    assert feedback_agent("builtin").decide(Arm().evidence()) == AGENT.decide(Arm().evidence())
    with pytest.raises(SpecError, match=r"spec\.agents\.feedback\.type: unknown type 'oracle'"):
        feedback_agent("oracle")
