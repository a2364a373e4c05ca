"""Families of comparisons: Holm's correction, effect sizes, and the claims that are left."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sia_flow.lineage.results import ArmResult
from sia_flow.report.comparison import standardised, t_p_value
from sia_flow.report.family import effect_name, holm, pairwise

Make = Callable[..., ArmResult]


def test_holm_on_a_worked_example() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling: 0.02, 0.03, 0.06, 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_between_the_raw_value_and_bonferroni(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(p <= a <= min(1.0, p * len(values)) + 1e-12 for p, a in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.asarray(adjusted)[order]) >= 0)


def test_the_p_value_is_scipy_s_paired_test() -> None:
    differences = np.array([0.10, 0.02, 0.07, -0.01, 0.05])
    assert t_p_value(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert t_p_value(np.zeros(3)) == 1.0
    assert t_p_value(np.full(3, 0.25)) == 0.0


def test_the_effect_is_the_mean_over_the_deviation_shrunk_for_few_seeds() -> None:
    differences = np.array([0.1, 0.2, 0.3])
    # Mean 0.2, deviation 0.1, factor 1 - 3 / 7.
    assert standardised(differences) == pytest.approx(2 * 4 / 7)
    assert standardised(np.full(3, 0.25)) is None


def test_words_for_effects_are_cohen_s() -> None:
    assert [effect_name(value) for value in (0.1, -0.3, 0.6, -2.0)] == ["negligible", "small", "medium", "large"]


def test_every_pair_of_arms_with_a_common_seed_is_compared(result: Make) -> None:
    results = [result("SIA-H", s, 0.20 + 0.01 * s) for s in range(3)]
    results += [result("SIA-W+H", s, 0.30 + 0.013 * s) for s in range(3)]
    results += [result("best-of-n", 9, 0.1)]
    (found,) = pairwise(results)
    assert (found.comparison.treatment, found.comparison.control) == ("SIA-W+H", "SIA-H")
    assert found.adjusted == found.comparison.p
    assert found.outcome == "better"
    assert "large effect" in found.verdict


def test_a_claim_that_holds_alone_falls_in_a_large_family(result: Make) -> None:
    noise = (0.0, 0.02, -0.02, 0.01)
    first = [result("a", s, 0.2) for s in range(4)]
    second = [result("b", s, 0.2 + 0.03 + noise[s]) for s in range(4)]
    (alone,) = pairwise([*first, *second])
    assert alone.outcome == "better"
    others = [result(f"c{i}", s, 0.2 + noise[(s + i) % 4]) for i in range(6) for s in range(4)]
    family = pairwise([*first, *second, *others])
    same = next(p for p in family if (p.comparison.treatment, p.comparison.control) == ("b", "a"))
    assert same.comparison.p == pytest.approx(alone.comparison.p)
    assert same.outcome == "undecided"
    assert "cannot be told apart" in same.verdict


def test_one_seed_has_a_bootstrap_p_value_and_no_effect_size(result: Make) -> None:
    (found,) = pairwise([result("SIA-H", 0, 0.2), result("SIA-W+H", 0, 0.3)])
    assert found.comparison.effect is None
    assert 0 < found.comparison.p < 0.01
    (equal,) = pairwise([result("SIA-H", 0, 0.2), result("SIA-W+H", 0, 0.2)])
    assert equal.comparison.p > 0.5
