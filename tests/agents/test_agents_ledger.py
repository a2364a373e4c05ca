"""The ledger: every pull of every experiment once, from the records alone."""

import pytest

from sia_flow.agents.context import TERMS, context_of, effects_of
from sia_flow.agents.feedback import BuiltinFeedbackAgent
from sia_flow.agents.ledger import ledger_rows
from sia_flow.canonical import digest
from sia_flow.errors import StoreError
from sia_flow.lineage.jsonl import dump_lines, load_lines
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Decision, Draw
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Step, StepOutput, Store
from tests.agents.pulls import row
from tests.agents.world import Arm, score


@pytest.fixture(scope="module")
def arm():
    """An arm with three pulls of the builtin agent."""
    grown = Arm(trials=2)
    grown.play(BuiltinFeedbackAgent(), 3, lambda decision, _: 0.03 if decision.lever == "weights" else 0.005)
    return grown


@pytest.fixture
def store(tmp_path, arm):
    found = Store(tmp_path)
    for generation in reversed(arm.history):
        found.put_generation(generation)
    return found


def finished(experiment, name, generations):
    return ArmResult(
        key=digest([experiment, name]),
        experiment=experiment,
        arm=name,
        seed=0,
        generations=tuple(generation.id for generation in generations),
        incumbent=generations[0].id,
        stopped="budget.generations",
        select=score("select", 0.1),
        sealed=score("sealed", 0.1),
    )


def test_every_pull_is_a_row_with_what_its_records_hold(store, arm):
    rows = ledger_rows(store)
    assert [row.index for row in rows] == [1, 2, 3]
    for made, generation in zip(rows, arm.history[1:], strict=True):
        decision = generation.decision
        assert (made.generation, made.lever, made.forecast) == (generation.id, decision.lever, decision.forecast)
        assert (made.gain, made.gain_se, made.accepted) == (generation.gain, generation.gain_se, generation.accepted)
        assert (made.features, made.spend) == (decision.features, generation.spend)
        assert made.edits == tuple(edit.name for edit in decision.edits)
        assert made.algorithm == (decision.weights.algorithm if decision.weights else None)
        assert (made.propensity, made.experiment, made.arm, made.task) == (1.0, None, None, None)
    assert rows[0].action == "harness-constants"
    assert {row.action for row in rows if row.lever == "weights"} == {f"weights-{rows[1].algorithm}"}


def test_a_pull_that_arms_share_stands_once_under_the_first_by_name(store, arm):
    store.put_arm(finished("two", "SIA-H", arm.history[:3]))
    store.put_arm(finished("one", "mine", arm.history[:2]))
    named = [(row.index, row.experiment, row.arm) for row in ledger_rows(store)]
    assert named == [(3, None, None), (1, "one", "mine"), (2, "two", "SIA-H")]


def test_the_task_comes_from_the_rollout(store, arm):
    step = Step("rollout", 1, {}, {"task": "its digest"}, 0)
    store.run(step, StepOutput)
    store.put_generation(arm.history[1].model_copy(update={"steps": {"rollout train": step.key}}))
    assert [row.task for row in ledger_rows(store)] == ["its digest", None, None]


def test_a_damaged_generation_is_told_and_not_left_out(store, arm):
    (store.root / "generations" / f"{arm.history[2].id}.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        ledger_rows(store)


def test_rows_come_back_from_their_lines(store):
    rows = ledger_rows(store)
    assert tuple(load_lines(dump_lines(rows), LedgerRow)) == rows


def test_a_drawn_row_knows_its_chance():
    draw = Draw(table="harness-constants", chances={"harness-constants": 0.25, "weights-grpo": 0.75})
    assert row("weights-grpo", 0.01, {}, draw=draw).propensity == 0.75


def test_a_decision_without_a_draw_is_written_as_before():
    plain = Decision(lever="stop", reason="", forecast=0.0)
    assert "draw" not in plain.model_dump(mode="json")
    drawn = plain.model_copy(update={"draw": Draw(table="stop", chances={"stop": 1.0})})
    assert Decision.model_validate(drawn.model_dump(mode="json")) == drawn


def test_contexts_share_no_unit(arm):
    seen = dict(arm.history[1].decision.features)
    scaled = {"mean", "sd", "best", "upper", "spread", "harness_banked", "weights_banked", "select_noise"}
    larger = {name: value * (1000 if name in scaled else 1) for name, value in seen.items()}
    for action in ("harness-constants", "weights-grpo"):
        context = context_of(seen, action)
        assert len(context) == len(TERMS)
        assert context == pytest.approx(context_of(larger, action))
    (small,), (large,) = (
        effects_of([row("weights-grpo", 0.02, seen)]),
        effects_of([row("weights-grpo", 20.0, larger, gain_se=10.0)]),
    )
    assert (small.gain, small.noise) == pytest.approx((large.gain, large.noise))


def test_each_measurement_is_learnt_from_once_and_blind_pulls_not_at_all(arm):
    seen = arm.history[1].decision.features
    same = [row("harness-constants", 0.02, seen, generation=name) for name in ("a", "b")]
    assert len(effects_of(same)) == 1
    assert len(effects_of([*same, row("harness-constants", 0.03, seen)])) == 2
    assert effects_of([row("harness-constants", 0.02, {})]) == []
    assert effects_of([row("harness-constants", 0.02, {**seen, "sd": 0.0, "select_noise": 0.0})]) == []
