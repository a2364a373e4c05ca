"""The gap between what is optimised and what is meant: figures, and alarms beyond two standard errors."""

from __future__ import annotations

import pytest

from sia_flow.lineage.goodhart import ALARM, closing, gap_of, gaps
from sia_flow.lineage.records import Generation, Isolation, Score
from sia_flow.lineage.results import ArmResult


def score(split: str, mean: float, se: float = 0.01, **metrics: float) -> Score:
    return Score(split=split, n=8, mean=mean, se=se, best=mean, valid=1.0, metrics=metrics)


def generation(index: int, train: float, select: float, guard: float = 0.1, **metrics: float) -> Generation:
    return Generation(
        id=f"{index:064x}",
        index=index,
        parent=None,
        seed=0,
        scaffold="s",
        base="b",
        adapter=None,
        data="d",
        verifier="v",
        decision=None,
        train=score("train", train),
        select=score("select", select, **metrics),
        guards={"poisson": guard},
        accepted=True,
        verdict="",
        isolation=Isolation(level=2, backend="bubblewrap"),
        trajectories="t",
    )


def result(select: float, sealed: float, **changes: object) -> ArmResult:
    fields = {
        "key": "k",
        "experiment": "e",
        "arm": "SIA-H",
        "seed": 0,
        "generations": ("0",),
        "incumbent": "0",
        "stopped": "",
        "select": score("select", select),
        "sealed": score("sealed", sealed),
        "baselines": {"magic": {"select": 0.3, "sealed": 0.25}},
    }
    return ArmResult.model_validate(fields | changes)


def test_a_gap_that_was_there_from_the_start_is_no_alarm() -> None:
    first, second = gaps([generation(0, 0.9, 0.2), generation(1, 0.95, 0.25)])
    assert (first.growth, first.growth_se, first.alarms) == (0.0, 0.0, ())
    assert second.gap == pytest.approx(0.7)
    assert second.growth == pytest.approx(0.0)
    assert second.alarms == ()


@pytest.mark.parametrize(("train", "alarm"), [(0.239, False), (0.241, True), (0.0, False)])
def test_the_threshold_is_two_standard_errors_of_the_growth(train: float, alarm: bool) -> None:  # noqa: FBT001
    found = gap_of(generation(0, 0.2, 0.2), generation(3, train, 0.2))
    assert found.growth_se == pytest.approx(0.02)
    assert ALARM == 2.0
    assert bool(found.alarms) is alarm
    if alarm:
        assert "beyond 2 standard errors (0.0200)" in found.alarms[0]


def test_a_guard_that_breaks_and_a_truth_that_gets_worse_while_the_score_rises() -> None:
    first = generation(0, 0.2, 0.2, truth_error=0.5)
    now = generation(1, 0.4, 0.4, -0.01, truth_error=0.6)
    found = gap_of(first, now)
    assert found.guards == {"poisson": pytest.approx(-0.11)}
    assert found.truth == {"truth_error": pytest.approx(0.1)}
    assert [alarm.split()[1] for alarm in found.alarms] == ["guard", "score"]
    assert gap_of(generation(0, 0.2, 0.2, -0.2), now).alarms == ()
    assert len(gap_of(first, generation(1, 0.4, 0.4, truth_error=0.4)).alarms) == 0
    assert len(gap_of(first, generation(1, 0.2, 0.2, truth_error=0.6)).alarms) == 0


def test_the_closing_gap_is_held_against_the_baselines() -> None:
    assert closing(result(0.5, 0.45)).alarms == ()
    found = closing(result(0.5, 0.4))
    assert (found.gap, found.se) == (pytest.approx(0.05), pytest.approx(0.0141, abs=1e-4))
    assert "SIA-H seed 0: select promised more than sealed keeps" in found.alarms[0]
    assert len(closing(result(0.5, 0.5, guards={"poisson": -0.1}, reading=2)).alarms) == 2
    assert closing(result(0.5, 0.48, baselines={})).gap == pytest.approx(0.02)
