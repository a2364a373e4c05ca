import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.training.tilt import (
    LN2,
    effective_samples,
    ess_tilt,
    kl_tilt,
    kl_to_uniform,
    leave_one_out_weights,
)

groups = st.lists(st.integers(0, 1000), min_size=4, max_size=24, unique=True).map(
    lambda values: torch.tensor(values, dtype=torch.float64) / 1000
)


def uniform(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("count", [8, 16, 64])
def test_tilt_spends_exactly_the_budget(count):
    rewards = uniform(count)
    assert kl_to_uniform(rewards, kl_tilt(rewards)) == pytest.approx(LN2, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(groups, st.floats(0.01, 1e4), st.floats(-100, 100))
def test_tilt_scales_with_rewards_and_ignores_shifts(rewards, scale, shift):
    assert kl_tilt(rewards * scale + shift) * scale == pytest.approx(kl_tilt(rewards), rel=1e-5)


def test_one_winner_among_many_has_a_closed_form():
    rewards = torch.zeros(64, dtype=torch.float64)
    rewards[3] = 1.0
    beta = kl_tilt(rewards)
    q = math.exp(beta) / (math.exp(beta) + 63)
    assert q * math.log(64 * q) + (1 - q) * math.log(64 * (1 - q) / 63) == pytest.approx(LN2, abs=1e-9)
    assert 27 < math.exp(beta) < 30


def test_a_budget_that_ties_make_unreachable_saturates():
    assert kl_tilt(torch.tensor([1.0, 1.0, 1.0, 0.0])) == 1e6


def test_equal_rewards_and_single_ones_are_not_tilted():
    assert kl_tilt(torch.full((8,), 0.5)) == 0.0
    assert ess_tilt(torch.full((8,), 0.5), 4.0) == 0.0
    assert kl_tilt(torch.tensor([0.5])) == 0.0


def test_effective_samples_hit_the_floor():
    rewards = uniform(32, seed=1)
    assert effective_samples(rewards, 0.0) == pytest.approx(32)
    assert effective_samples(rewards, ess_tilt(rewards, 8.0)) == pytest.approx(8.0, abs=1e-6)


def test_weights_divide_by_the_mean_of_the_others():
    rewards, beta = uniform(5), 1.3
    tilted = [math.exp(beta * reward) for reward in rewards.tolist()]
    expected = [e / ((sum(tilted) - e) / 4) for e in tilted]
    assert torch.allclose(leave_one_out_weights(rewards, beta), torch.tensor(expected, dtype=torch.float64))


def test_weights_tend_to_the_leave_one_out_advantage():
    rewards, beta = uniform(5), 1e-5
    expected = rewards - (rewards.sum() - rewards) / 4
    assert torch.allclose((leave_one_out_weights(rewards, beta) - 1) / beta, expected, atol=1e-4)
