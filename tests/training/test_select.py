import numpy as np
import pytest

from sia_flow.errors import TrainingError
from sia_flow.training.algorithms import ALGORITHMS
from sia_flow.training.select import choose, features, skewness

CHANCE = np.random.default_rng(0)


def found(groups, invalid_below=-1.0, **options):
    rewards = {f"g{i}": [float(x) for x in group] for i, group in enumerate(groups)}
    valid = {name: [x > invalid_below for x in values] for name, values in rewards.items()}
    return features(rewards, valid, **options)


def rare(share, count=32, groups=4):
    """Rewards around 0.2, of which a share stands at 0.8."""
    base = CHANCE.normal(0.2, 0.02, (groups, count))
    base[CHANCE.random((groups, count)) < share] = 0.8
    return base


@pytest.mark.parametrize(
    ("groups", "options", "algorithm"),
    [
        (CHANCE.normal(0.3, 0.1, (4, 32)), {}, "grpo"),
        (rare(0.03), {}, "entropic"),
        (CHANCE.normal(0.9, 0.02, (4, 32)), {}, "reinforce_kl"),
        ([[0.0] * 32] * 3 + [[0.0] * 31 + [0.4]], {}, "best_of_n_bc"),
        (CHANCE.normal(0.3, 0.1, (4, 32)), {"ordinal": True}, "dpo"),
        (CHANCE.normal(0.6, 0.1, (4, 32)), {"calls": 6.0}, "ppo"),
        (CHANCE.normal(0.9, 0.02, (4, 32)), {"tokens": 3000.0}, "ppo"),
        ([[0.0] * 24 + [0.4] * 8] * 4, {"calls": 6.0}, "entropic"),
    ],
)
def test_the_paper_s_table(groups, options, algorithm):
    name, reason = choose(found(groups, **options), tuple(ALGORITHMS))
    assert name == algorithm
    assert "{" not in reason
    assert len(reason) > 20


def test_an_algorithm_that_is_not_on_the_menu_is_not_chosen():
    assert choose(found(rare(0.03)), ["grpo", "dpo"])[0] == "grpo"
    name, reason = choose(found(rare(0.03)), ["dpo", "reinforce_kl"])
    assert (name, "first of the menu" in reason) == ("dpo", True)
    with pytest.raises(TrainingError, match="empty"):
        choose(found(rare(0.03)), [])


def test_features_of_a_small_batch():
    got = features(
        {"a": [0.0, 0.2, 0.4, 0.6], "b": [0.1] * 4},
        {"a": [False, True, True, True], "b": [True] * 4},
        floor=0.0,
    )
    assert (got.count, got.best, got.dead_groups) == (8, 0.6, 0.5)
    assert got.mean == pytest.approx(0.2)
    assert got.density == got.pass_rate == 7 / 8
    assert got.spread == pytest.approx(np.std([0, 0.2, 0.4, 0.6]) / 2)
    assert got.capability == pytest.approx(1 / 3)


def test_skew_is_measured_within_groups_and_over_valid_answers():
    level = [[0.1 + 0.01 * i for i in range(16)]] * 5 + [[0.9 + 0.01 * i for i in range(16)]]
    assert abs(found(level).skew) < 0.01
    failing = [[*row, 0.0, 0.0] for row in level]
    assert abs(found(failing, invalid_below=0.0).skew) < 0.01


def test_skewness_of_known_samples():
    assert skewness(np.array([0.0] * 9 + [1.0])) == pytest.approx(0.8 / 0.3)
    assert skewness(np.arange(10.0)) == pytest.approx(0.0)
    assert skewness(np.full(10, 0.5)) == 0.0
    assert skewness(np.array([0.0, 0.0, 9.0])) == 0.0


def test_no_reward_is_refused():
    with pytest.raises(TrainingError, match="no reward"):
        features({}, {})
