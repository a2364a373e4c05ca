from __future__ import annotations

import math
from random import Random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.lineage.records import Score, Verdict
from sia_flow.verify.gate import accept, indecisive, paired_gain, pooled, summarize

rewards = st.lists(st.floats(0, 1), min_size=2, max_size=6).map(tuple)
pairs = st.lists(st.tuples(rewards, rewards), min_size=1, max_size=4)


def score(**groups: tuple[float, ...]) -> Score:
    verdicts = {name: [Verdict(reward=r, valid=True) for r in group] for name, group in groups.items()}
    return summarize("select", list(groups), verdicts)


def named(groups: list[tuple[float, ...]]) -> Score:
    return score(**{f"i{k}": group for k, group in enumerate(groups)})


@given(pairs)
def test_gain_is_antisymmetric_and_its_error_symmetric(
    found: list[tuple[tuple[float, ...], tuple[float, ...]]],
) -> None:
    new, old = named([a for a, _ in found]), named([b for _, b in found])
    gain, error = paired_gain(new, old)
    back, same = paired_gain(old, new)
    assert gain == pytest.approx(-back)
    assert error == pytest.approx(same)
    assert error >= 0


@given(pairs, st.floats(-1, 1))
def test_a_shift_of_an_instance_common_to_both_changes_nothing(
    found: list[tuple[tuple[float, ...], tuple[float, ...]]], shift: float
) -> None:
    moved = [(tuple(x + shift for x in a), tuple(x + shift for x in b)) for a, b in found[:1]] + found[1:]
    before = paired_gain(named([a for a, _ in found]), named([b for _, b in found]))
    after = paired_gain(named([a for a, _ in moved]), named([b for _, b in moved]))
    assert after == pytest.approx(before, abs=1e-9)


def test_error_is_that_of_a_stratified_difference() -> None:
    new, old = score(a=(1.0, 2.0, 3.0), b=(5.0, 5.0)), score(a=(0.0, 2.0), b=(1.0, 3.0, 2.0, 2.0))
    gain, error = paired_gain(new, old)
    assert gain == pytest.approx(((2 - 1) + (5 - 2)) / 2)
    assert error == pytest.approx(math.sqrt(1 / 3 + 2 / 2 + 0 + (2 / 3) / 4) / 2)


def test_error_matches_the_spread_of_repeated_measurements() -> None:
    random, gains, errors = Random(1), [], []
    for _ in range(800):
        groups = [[random.gauss(level, 0.2) for _ in range(12)] for level in (0.1, 0.9, 0.1, 0.9)]
        gain, error = paired_gain(named([tuple(g) for g in groups[:2]]), named([tuple(g) for g in groups[2:]]))
        gains.append(gain)
        errors.append(error)
    assert fmean(gains) == pytest.approx(0, abs=0.01)
    assert fmean(errors) == pytest.approx(stdev(gains), rel=0.08)


def test_only_shared_instances_count() -> None:
    gain, _ = paired_gain(score(a=(1.0, 1.0), c=(9.0, 9.0)), score(a=(0.5, 0.5), b=(0.0, 0.0)))
    assert gain == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no instance in common"):
        paired_gain(score(a=(1.0,)), score(b=(1.0,)))


def test_single_rollouts_are_compared_by_their_differences() -> None:
    gain, error = paired_gain(score(a=(1.0,), b=(2.0,)), score(a=(0.5,), b=(1.0,)))
    assert gain == pytest.approx(0.75)
    assert error == pytest.approx(stdev([0.5, 1.0]) / math.sqrt(2))
    assert paired_gain(score(a=(1.0,)), score(a=(0.0,)))[1] == math.inf


@pytest.mark.parametrize(
    ("new", "guards", "k", "words"),
    [
        ((0.50, 0.51), {}, 1.0, "accepted"),
        ((0.50, 0.51), {"poisson": -0.01}, 1.0, "guard broken (poisson -0.0100)"),
        ((0.50, 0.51), {"poisson": 0.0}, 1.0, "accepted"),
        ((0.10, 0.40), {}, 1.0, "indecisive"),
        ((0.10, 0.40), {}, 0.1, "accepted"),
        ((0.10, 0.11), {}, 1.0, "not better"),
        ((0.20, 0.20), {}, 0.0, "not better"),
    ],
)
def test_acceptance(new: tuple[float, ...], guards: dict[str, float], k: float, words: str) -> None:
    decision, why = accept(score(a=new), score(a=(0.2, 0.2)), guards, k)
    assert decision is (words == "accepted")
    assert words in why


def test_summary_counts_and_averages() -> None:
    bad = Verdict(reward=0.0, valid=False, reason="guard", metrics={"mse": 9.0})
    good = [Verdict(reward=r, valid=True, metrics={"mse": r, "extra": 1.0}) for r in (0.2, 0.4)]
    found = summarize("train", ["a", "b"], {"a": [bad, good[0]], "b": [good[1]]})
    assert (found.n, found.best, found.valid) == (3, 0.4, pytest.approx(2 / 3))
    assert found.mean == pytest.approx(0.2)
    assert found.se == pytest.approx(math.sqrt(2 * 0.02) / 3)
    assert found.metrics == pytest.approx({"mse": 0.3, "extra": 1.0})
    assert found.rewards == {"a": (0.0, 0.2), "b": (0.4,)}
    assert found.reasons == {"guard": 1, "ok": 2}


def test_summary_of_nothing_is_empty() -> None:
    assert summarize("train", ["a"], {}).n == 0


@given(pairs)
def test_pooled_measurements_are_one_measurement_of_all_draws(
    found: list[tuple[tuple[float, ...], tuple[float, ...]]],
) -> None:
    both = pooled([named([a for a, _ in found]), named([b for _, b in found])])
    whole = named([a + b for a, b in found])
    assert (both.n, both.rewards, both.best) == (whole.n, whole.rewards, whole.best)
    assert both.mean == pytest.approx(whole.mean)
    assert both.se == pytest.approx(whole.se)


def test_a_gain_within_k_standard_errors_is_indecisive_and_no_other() -> None:
    old = score(a=(0.1, 0.3))
    assert indecisive(score(a=(0.1, 0.5)), old, 1.0)
    assert not indecisive(score(a=(0.1, 0.5)), old, 0.1)
    assert not indecisive(score(a=(0.1, 0.2)), old, 1.0)
    assert not indecisive(old, old, 1.0)
    assert pooled([old]) is old
