"""What only a known truth tells never reaches an agent."""

from __future__ import annotations

from sia_flow.lineage.records import Generation, Isolation, Score
from sia_flow.loop.shown import shown


def test_truth_figures_are_taken_off_before_an_agent_sees_a_generation() -> None:
    metrics = {"mse_norm": 0.1, "truth_mse_ratio": 0.5}
    scores = {
        split: Score(split=split, n=1, mean=0.1, se=0.0, best=0.1, valid=1.0, metrics=metrics)
        for split in ("train", "select")
    }
    generation = Generation(
        id="g",
        index=0,
        parent=None,
        seed=0,
        scaffold="s",
        base="b",
        adapter=None,
        data="d",
        verifier="v",
        decision=None,
        accepted=True,
        verdict="first",
        isolation=Isolation(level=2, backend="bubblewrap"),
        trajectories="t",
        **scores,
    )
    assert "truth" not in shown(generation).model_dump_json()
    assert shown(generation).select.metrics == {"mse_norm": 0.1}
    assert shown(generation).id == generation.id
