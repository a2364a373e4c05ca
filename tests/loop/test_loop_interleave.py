"""Levers interleaved: which harness pulls are widened, and what a run then records."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.lineage.records import Decision, Draw
from sia_flow.loop.interleave import interleaved
from tests.agents.world import Arm
from tests.flows.world import generations, run_here

EDIT = Decision(lever="harness", reason="An edit.", forecast=0.01, draw=Draw(table="both", chances={"both": 1.0}))


@pytest.mark.parametrize(
    ("every", "pulled", "lever"),
    [
        (None, ["harness"] * 9, "harness"),
        (1, [], "both"),
        (2, [], "harness"),
        (2, ["harness"], "both"),
        (2, ["harness", "weights"], "harness"),
        (3, ["weights", "harness"], "harness"),
        (3, ["weights", "harness", "harness"], "both"),
        (2, ["harness", "both"], "harness"),
    ],
)
def test_every_nth_harness_pull_since_the_weights_changed(every: int | None, pulled: list[str], lever: str) -> None:
    arm = Arm()
    for name in pulled:
        arm.pull(name, gain=-0.05)
    found = interleaved(every, arm.evidence(), EDIT)
    assert found.lever == lever
    if lever == "harness":
        assert found == EDIT
        return
    assert found.weights is not None
    assert found.weights.algorithm in arm.menu
    assert (found.draw, found.edits) == (None, EDIT.edits)
    assert found.reason.startswith("An edit. By search.interleave")


def test_other_pulls_and_arms_stay_as_they_were_decided() -> None:
    stop = EDIT.model_copy(update={"lever": "stop"})
    assert interleaved(1, Arm().evidence(), stop) is stop
    assert interleaved(1, Arm(levers=("harness",)).evidence(), EDIT) is EDIT


def test_a_run_records_the_edit_and_the_update_as_one_generation(spec: Path) -> None:
    (result,) = run_here(spec, "arms=[SIA-W+H]", "training.iterations=1", "search={trials: 2, interleave: 1}")
    first, mixed = generations(spec.parents[1], result)
    assert mixed.decision.lever == "both"
    assert (mixed.scaffold != first.scaffold, mixed.adapter is not None, len(mixed.training)) == (True, True, 1)
    assert {"scaffold edit", "train-LoRA"} <= set(mixed.steps)
