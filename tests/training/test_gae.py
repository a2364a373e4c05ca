import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.training.gae import gae


@st.composite
def streams(draw):
    """One to four episodes of one to six tokens: rewards, values, last marks."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    count = sum(lengths)
    numbers = st.floats(-3, 3, allow_nan=False)
    rewards, values = (np.array(draw(st.lists(numbers, min_size=count, max_size=count))) for _ in range(2))
    last = np.zeros(count, dtype=bool)
    last[np.cumsum(lengths) - 1] = True
    return rewards, values, last


def brute_force(rewards, values, last, gamma, lam):
    """Sum each token's discounted errors up to its episode's end, by the definition."""
    out = np.zeros_like(rewards)
    for t in range(len(rewards)):
        end = t + int(np.argmax(last[t:]))
        for later in range(t, end + 1):
            following = 0.0 if later == end else values[later + 1]
            out[t] += (gamma * lam) ** (later - t) * (rewards[later] + gamma * following - values[later])
    return out


@settings(max_examples=50, deadline=None)
@given(stream=streams(), gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_it_is_the_discounted_sum_of_errors(stream, gamma, lam):
    found = gae(*stream, gamma, lam)
    np.testing.assert_allclose(found.advantages, brute_force(*stream, gamma, lam), atol=1e-9)
    np.testing.assert_allclose(found.returns, found.advantages + stream[1], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(stream=streams())
def test_lambda_one_trusts_the_rewards_alone_and_zero_the_next_value(stream):
    rewards, values, last = stream
    to_go = brute_force(rewards, np.zeros_like(values), last, 1.0, 1.0)
    np.testing.assert_allclose(gae(*stream, 1.0, 1.0).returns, to_go, atol=1e-9)
    following = np.where(last, 0.0, np.roll(values, -1))
    np.testing.assert_allclose(gae(*stream, 0.9, 0.0).returns, rewards + 0.9 * following, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(one=streams(), two=streams())
def test_nothing_flows_from_one_episode_into_another(one, two):
    both = gae(*(np.concatenate(pair) for pair in zip(one, two, strict=True)))
    apart = np.concatenate([gae(*one).advantages, gae(*two).advantages])
    np.testing.assert_array_equal(both.advantages, apart)


def test_a_critic_that_knows_leaves_no_advantage():
    rewards, last = np.array([0.5, 0.0, 1.0]), np.array([False, False, True])
    found = gae(rewards, np.array([1.5, 1.0, 1.0]), last)
    assert found.advantages == pytest.approx([0.0, 0.0, 0.0])
