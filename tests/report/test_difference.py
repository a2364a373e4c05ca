"""What is different between two generations, and Student's t without scipy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scipy.special import stdtr, stdtrit

from sia_flow.lineage.records import Score
from sia_flow.report.difference import metric_change
from sia_flow.report.student import central, quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 29, 100])
@pytest.mark.parametrize("level", [0.0, 0.5, 0.9, 0.95, 0.999])
def test_student_agrees_with_scipy(freedom: int, level: float) -> None:
    assert quantile(level, freedom) == pytest.approx(stdtrit(freedom, 0.5 + level / 2), rel=1e-9, abs=1e-9)
    t = 0.3 + freedom / 10 + level
    assert central(t, freedom) == pytest.approx(1 - 2 * stdtr(freedom, -t), rel=1e-12)


def with_rewards(score: Callable[..., Score], **rewards: tuple[float, ...]) -> Score:
    flat = [value for values in rewards.values() for value in values]
    mean = sum(flat) / len(flat)
    return score("select", mean).model_copy(update={"rewards": rewards, "mean": mean})


def test_fixed_and_broken_are_beyond_both_errors(score: Callable[..., Score]) -> None:
    old = with_rewards(score, a=(0.0, 0.0, 0.0), b=(0.5, 0.6, 0.5), c=(0.1, 0.5, 0.3))
    new = with_rewards(score, a=(0.2, 0.2, 0.2), b=(0.1, 0.0, 0.1), c=(0.1, 0.5, 0.35))
    change = metric_change(old, new, "select")
    assert (change.fixed, change.broken) == (("a",), ("b",))
    assert change.low is not None
    assert change.high is not None
    assert change.low <= change.new - change.old <= change.high


def test_other_instances_give_no_interval(score: Callable[..., Score]) -> None:
    change = metric_change(with_rewards(score, a=(0.1, 0.2)), with_rewards(score, b=(0.1, 0.2)), "select")
    assert (change.low, change.high, change.fixed, change.broken) == (None, None, (), ())
