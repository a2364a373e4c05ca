"""Differences of arms: closed forms, coverage, and what the words claim."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.lineage.records import Score
from sia_flow.lineage.results import ArmResult
from sia_flow.report.comparison import bootstrap_interval, compare, t_interval
from sia_flow.report.table import combine, final_rows, final_table

Make = Callable[..., ArmResult]


def test_three_seeds_give_a_paired_t_interval(result: Make) -> None:
    ours, theirs = (0.30, 0.34, 0.35), (0.20, 0.22, 0.24)
    results = [result("SIA-W+H", s, v) for s, v in enumerate(ours)]
    results += [result("SIA-H", s, v) for s, v in enumerate(theirs)]
    found = compare(results)
    # Differences 0.10, 0.12, 0.11: s = 0.01, t(2, 0.975) = 4.30265.
    assert found.difference == pytest.approx(0.11)
    assert found.high - found.low == pytest.approx(2 * 4.30265 * 0.01 / 3**0.5, rel=1e-5)
    assert found.outcome == "better"
    assert found.verdict.startswith("SIA-W+H is better than SIA-H on sealed: +0.1100 [")
    assert "over 3 seeds, paired" in found.verdict


def test_a_shared_seed_effect_is_paired_away(result: Make) -> None:
    results = [result("SIA-H", s, 0.2 * s) for s in range(3)]
    results += [result("SIA-W+H", s, 0.2 * s + 0.05) for s in range(3)]
    found = compare(results)
    assert found.low == pytest.approx(found.high)
    assert found.difference == pytest.approx(0.05)


def test_one_seed_is_bootstrapped_and_says_so(result: Make) -> None:
    found = compare([result("SIA-H", 0, 0.20), result("SIA-W+H", 0, 0.30)])
    assert found.method == "bootstrap over rollouts"
    assert found.outcome == "better"
    assert "one seed" in found.verdict
    assert "not whether another seed would agree" in found.verdict


def test_equal_arms_cannot_be_told_apart(result: Make) -> None:
    found = compare([result("SIA-H", 0, 0.2), result("SIA-W+H", 0, 0.2)])
    assert found.outcome == "undecided"
    assert found.low < 0 < found.high
    assert "cannot be told apart" in found.verdict


def test_a_worse_arm_is_called_worse(result: Make) -> None:
    assert compare([result("SIA-H", 0, 0.3), result("SIA-W+H", 0, 0.2)]).outcome == "worse"


def test_arms_without_a_common_seed_are_not_compared(result: Make) -> None:
    assert compare([result("SIA-H", 0, 0.3), result("SIA-W+H", 1, 0.2)]) is None
    assert compare([]) is None


def test_the_bootstrap_has_the_width_of_theory(score: Callable[..., Score]) -> None:
    generator = np.random.default_rng(0)
    pair = []
    for mean in (0.5, 0.4):
        rewards = {f"i{i}": tuple(generator.normal(mean + i, 0.1, 64)) for i in range(4)}
        pair.append(score("sealed", mean).model_copy(update={"rewards": rewards, "n": 256}))
    low, high = bootstrap_interval([tuple(pair)], 0.95)
    # Within-instance deviation 0.1 each, 256 rollouts an arm; what divides the instances does not count.
    assert high - low == pytest.approx(2 * 1.96 * 0.1 * (2 / 256) ** 0.5, rel=0.1)
    assert (low, high) == bootstrap_interval([tuple(pair)], 0.95)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8), st.floats(0.5, 0.99))
def test_the_t_interval_holds_the_mean_and_grows_with_its_level(values: list[float], level: float) -> None:
    differences = np.array(values)
    low, high = t_interval(differences, level)
    wide = t_interval(differences, 0.995)
    assert low - 1e-9 <= differences.mean() <= high + 1e-9
    assert wide[0] <= low + 1e-9 <= high + 2e-9 <= wide[1] + 3e-9


def test_rows_stand_in_reading_order(result: Make) -> None:
    results = [
        result("best-of-n", 0, 0.21, control="best-of-n"),
        result("SIA-H", 0, 0.2),
        result("SIA-W+H", 0, 0.3),
    ]
    rows = final_rows(results)
    kinds = [(row.label, row.kind) for row in rows]
    assert kinds == [
        ("initial", "initial"),
        ("SIA-H", "arm"),
        ("SIA-W+H", "arm"),
        ("best-of-n", "control"),
        ("magic", "baseline"),
    ]
    assert rows[0].select.mean == 0.05
    assert rows[0].sealed is None
    assert rows[-1].sealed.mean == 0.081


def test_one_answer_an_instance_has_no_error_over_rollouts(score: Callable[..., Score]) -> None:
    once = score("sealed", 0.5, 0.0).model_copy(update={"rewards": {"a": (0.0,), "b": (1.0,)}})
    assert str(combine([once])) == "0.5000"
    agreed = once.model_copy(update={"rewards": {"a": (0.0, 0.0), "b": (1.0, 1.0)}})
    assert str(combine([agreed])) == "0.5000 ± 0.0000"


def test_the_error_is_over_seeds_where_there_are_seeds(result: Make) -> None:
    rows = {row.label: row for row in final_rows([result("SIA-H", s, v) for s, v in enumerate((0.1, 0.2, 0.3))])}
    assert rows["SIA-H"].sealed.mean == pytest.approx(0.2)
    assert rows["SIA-H"].sealed.se == pytest.approx(0.1 / 3**0.5)
    assert rows["SIA-H"].rollouts == 4500
    assert rows["SIA-H"].seeds == rows["magic"].seeds == 3


def test_one_seed_keeps_its_own_error(score: Callable[..., Score]) -> None:
    assert combine([score("sealed", 0.2, se=0.03)]).se == 0.03
    assert combine([]) is None


def test_a_broken_guard_is_named_and_the_worst_one_is_shown(result: Make) -> None:
    results = [
        result("SIA-H", 0, 0.2, guards={"poisson": 0.1}),
        result("SIA-H", 1, 0.2, guards={"poisson": -0.3}),
    ]
    cells = {row["agent"]: row for row in final_table(results)}
    assert cells["SIA-H"]["guard margin"] == "-0.3000 broken"


def test_what_was_not_measured_is_a_dash(result: Make) -> None:
    cells = {row["agent"]: row for row in final_table([result("SIA-H", 0, 0.2, best=None, guards={})])}
    assert cells["SIA-H"]["best program, sealed"] == cells["SIA-H"]["guard margin"] == "-"
    assert cells["magic (baseline)"]["rollouts"] == "-"
    assert cells["SIA-H"]["sealed"] == "0.2000 ± 0.0100"
    assert len({tuple(row) for row in cells.values()}) == 1


def test_an_arm_that_kept_nothing_shows_the_first_agents_sealed_score(result: Make) -> None:
    rows = final_rows([result("SIA-H", 0, 0.2, incumbent="0" * 64, factorial=())])
    assert rows[0].kind == "initial"
    assert rows[0].sealed.mean == 0.2


def test_many_instances_are_a_sample_and_are_redrawn(result: Make) -> None:
    def graded(arm: str, right: int) -> ArmResult:
        rewards = {str(i): (float(i < right),) for i in range(200)}
        score = Score(split="sealed", n=200, mean=right / 200, se=0.0, best=1.0, valid=1.0, rewards=rewards)
        return result(arm, 0, 0.5).model_copy(update={"sealed": score})

    clear, slight = (compare([graded("SIA-H", 100), graded("SIA-W+H", right)]) for right in (120, 102))
    assert clear.method == "bootstrap over instances"
    # 20 of 200 instances differ, all one way: se = sqrt(0.1 x 0.9 / 200) = 0.0212.
    assert (clear.low, clear.high) == pytest.approx((0.06, 0.14), abs=0.01)
    assert clear.outcome == "better"
    assert slight.outcome == "undecided"
    assert "over the instances of one seed, paired" in clear.verdict
