"""Off-policy estimates against a synthetic project whose truth is known."""

import numpy as np
import pytest

from sia_flow.agents.knowledge import Knowledge
from sia_flow.agents.offpolicy import Log, against_table, cross_expected, doubly_robust, inverse_propensity
from sia_flow.errors import SiaFlowError
from tests.agents.pulls import ACTIONS, logged, table, worth

TABLE = worth(lambda seen: {table(seen): 1.0})


def log_of(actions, gains, propensities):
    return Log(np.array(actions), np.array(gains, dtype=float), np.array(propensities, dtype=float))


def test_both_estimates_by_hand():
    log = log_of([0, 1], [1.0, 3.0], [0.5, 0.25])
    target = np.array([[0.5, 0.5], [0.5, 0.5]])
    found = inverse_propensity(log, target)
    assert found.mean == pytest.approx((1.0 * 1.0 + 2.0 * 3.0) / 2)
    assert found.effective == pytest.approx(3.0**2 / (1 + 4))
    assert found.low == pytest.approx(1.0)
    assert found.high == pytest.approx(6.0)
    expected = np.array([[1.0, 2.0], [0.0, 2.0]])
    robust = doubly_robust(log, target, expected)
    assert robust.mean == pytest.approx(((1.5 + 1.0 * 0.0) + (1.0 + 2.0 * 1.0)) / 2)


def test_a_right_regression_needs_no_weights_and_right_weights_no_regression():
    random = np.random.default_rng(1)
    actions = random.integers(0, 2, 4000)
    gains = np.where(actions == 1, 0.7, 0.2)
    target = np.tile([0.0, 1.0], (4000, 1))
    right, wrong = np.tile([0.2, 0.7], (4000, 1)), np.full((4000, 2), -5.0)
    biased = log_of(actions, gains, np.full(4000, 0.9))
    assert doubly_robust(biased, target, right).mean == pytest.approx(0.7)
    assert inverse_propensity(biased, target).mean < 0.45
    exact = log_of(actions, gains, np.full(4000, 0.5))
    assert doubly_robust(exact, target, wrong).mean == pytest.approx(0.7, abs=0.3)


def test_no_row_is_judged_by_a_regression_that_saw_it():
    contexts = np.ones((10, 1, 1))
    gains = np.zeros(10)
    gains[3] = 1.0
    found = cross_expected(log_of([0] * 10, gains, [1.0] * 10), contexts, np.zeros(10))[:, 0]
    assert found[3] == found[8] == 0.0
    assert (found[[0, 1, 2, 4]] > 0).all()


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5])
def test_what_is_no_probability_is_refused(propensity):
    with pytest.raises(SiaFlowError, match="propensity"):
        inverse_propensity(log_of([0], [1.0], [propensity]), np.ones((1, 1)))
    with pytest.raises(SiaFlowError, match="no pull"):
        inverse_propensity(log_of([], [], []), np.ones((0, 1)))


def test_intervals_cover_the_truth_and_the_robust_ones_are_narrower():
    found = [against_table(logged(150, seed), seed) for seed in range(30)]
    plain, robust = [c.table for c in found], [c.table_robust for c in found]
    for estimates in (plain, robust):
        assert np.mean([e.low <= TABLE <= e.high for e in estimates]) >= 0.85
        assert np.mean([e.mean for e in estimates]) == pytest.approx(TABLE, abs=0.03)
    assert np.mean([e.high - e.low for e in robust]) < np.mean([e.high - e.low for e in plain])
    assert all(c.rows == 150 and 1 <= c.table.effective <= 150 for c in found)


def test_rows_of_the_table_alone_give_nothing_to_compare():
    rows = [row.model_copy(update={"draw": None}) for row in logged(20, 0)]
    assert against_table(rows) is None
    assert against_table([]) is None


def test_after_enough_rows_the_learned_policy_beats_the_table():
    random_rows = [logged(count, 7) for count in (40, 400)]
    learned = [Knowledge(rows) for rows in random_rows]
    gains = [worth(lambda seen, k=k: k.chances(seen, ACTIONS, 3), count=300) for k in learned]
    assert gains[-1] > TABLE + 0.15
    assert gains[-1] > gains[0]
