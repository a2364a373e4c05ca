import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.training.advantages import (
    ESTIMATORS,
    entropic,
    entropic_ess,
    grpo,
    leave_one_out_baseline,
    live_episodes,
    preference_pairs,
    preferred,
    rloo,
    top_share,
)
from sia_flow.training.tilt import effective_samples, ess_tilt, leave_one_out_weights

GRADED = ["grpo", "rloo", "entropic", "entropic_ess", "leave_one_out_baseline"]


@st.composite
def batches(draw):
    """Three groups of three to eight rewards, ties allowed, interleaved."""
    sizes = draw(st.lists(st.integers(3, 8), min_size=3, max_size=3))
    groups = [g for g, size in enumerate(sizes) for _ in range(size)]
    groups = draw(st.permutations(groups))
    rewards = draw(st.lists(st.integers(0, 10), min_size=len(groups), max_size=len(groups)))
    return torch.tensor(rewards, dtype=torch.float64) / 10, torch.tensor(groups)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@settings(max_examples=20, deadline=None)
@given(batch=batches())
def test_equal_rewards_of_a_group_give_exactly_zero(name, batch):
    rewards, groups = batch
    rewards[groups == 1] = 0.3
    assert not ESTIMATORS[name](rewards, groups)[groups == 1].any()


@pytest.mark.parametrize("name", GRADED)
@settings(max_examples=20, deadline=None)
@given(batch=batches(), shift=st.floats(-10, 10))
def test_a_shift_of_all_rewards_changes_nothing(name, batch, shift):
    rewards, groups = batch
    estimate = ESTIMATORS[name]
    assert torch.allclose(estimate(rewards + shift, groups), estimate(rewards, groups), atol=1e-5)


@pytest.mark.parametrize("estimate", [entropic, entropic_ess])
@settings(max_examples=20, deadline=None)
@given(batch=batches(), scale=st.floats(0.01, 100))
def test_entropic_credit_does_not_depend_on_the_reward_unit(estimate, batch, scale):
    rewards, groups = batch
    assert torch.allclose(estimate(rewards * scale, groups), estimate(rewards, groups), atol=1e-4)


@pytest.mark.parametrize("name", [*GRADED, "top_share"])
@settings(max_examples=20, deadline=None)
@given(batch=batches(), data=st.data())
def test_the_order_of_episodes_does_not_matter(name, batch, data):
    rewards, groups = batch
    order = torch.tensor(data.draw(st.permutations(range(len(rewards)))))
    estimate = ESTIMATORS[name]
    assert torch.allclose(estimate(rewards[order], groups[order]), estimate(rewards, groups)[order], atol=1e-9)


def test_grpo_uses_the_unbiased_standard_deviation_of_the_group():
    rewards = torch.tensor([0.0, 1.0, 0.0, 1.0, 5.0, 6.0])
    groups = torch.tensor([0, 0, 0, 0, 1, 1])
    deviation = (4 * 0.25 / 3) ** 0.5
    expected = torch.tensor([-0.5, 0.5, -0.5, 0.5]) / (deviation + 1e-4)
    assert torch.allclose(grpo(rewards, groups)[:4], expected)
    assert torch.allclose(grpo(rewards, groups)[4:], torch.tensor([-0.5, 0.5]) / (0.5**0.5 + 1e-4))


def test_grpo_scales_by_the_batch_or_not_at_all():
    rewards = torch.tensor([0.0, 1.0, 5.0, 8.0])
    groups = torch.tensor([0, 0, 1, 1])
    centred = torch.tensor([-0.5, 0.5, -1.5, 1.5])
    assert torch.equal(grpo(rewards, groups, "none"), centred)
    assert torch.allclose(grpo(rewards, groups, "batch"), centred / (rewards.std() + 1e-4))


def test_rloo_subtracts_the_mean_of_the_others():
    rewards = torch.tensor([1.0, 2.0, 6.0, 9.0])
    groups = torch.tensor([0, 0, 0, 1])
    assert torch.allclose(rloo(rewards, groups), torch.tensor([1 - 4.0, 2 - 3.5, 6 - 1.5, 0.0]))


def test_the_baseline_of_reinforce_is_the_mean_of_all_others():
    rewards = torch.tensor([1.0, 2.0, 6.0, 9.0])
    others = torch.tensor([17 / 3, 16 / 3, 4.0, 3.0])
    assert torch.allclose(leave_one_out_baseline(rewards, torch.tensor([0, 0, 1, 1])), rewards - others)


def test_entropic_stays_finite_for_ties_and_is_clipped_for_pairs():
    groups = torch.zeros(4, dtype=torch.int64)
    assert torch.isfinite(entropic(torch.tensor([1.0, 1.0, 1.0, 0.0]), groups)).all()
    assert entropic(torch.tensor([0.0, 1.0]), groups[:2]).max() == 50.0


def test_entropic_lifts_a_rare_success_above_what_grpo_gives_it():
    rewards = torch.zeros(32)
    rewards[5] = 1.0
    groups = torch.zeros(32, dtype=torch.int64)
    share = [abs(a[5]) / a.abs().sum() for a in (entropic(rewards, groups), grpo(rewards, groups))]
    assert share[0] > share[1] + 0.1


def test_entropic_with_a_floor_of_effective_samples_is_gentler_for_a_higher_floor():
    rewards = torch.rand(32, generator=torch.Generator().manual_seed(0))
    groups = torch.zeros(32, dtype=torch.int64)
    steep, gentle = (entropic_ess(rewards, groups, share) for share in (1 / 16, 3 / 4))
    assert steep.max() > 2 * gentle.max() > 0


def test_entropic_ess_keeps_its_share_of_the_group_where_one_outlier_would_take_all():
    rewards = torch.cat([torch.linspace(0, 1, 31), torch.tensor([9.0])]).double()
    groups = torch.zeros(32, dtype=torch.int64)
    beta = ess_tilt(rewards, 8.0)
    expected = leave_one_out_weights(rewards, beta) - 1
    assert torch.allclose(entropic_ess(rewards, groups), expected)
    assert effective_samples(rewards, beta) == pytest.approx(8.0, abs=1e-6)


def test_top_share_takes_the_best_eighth_with_ties_and_never_the_worst():
    rewards = torch.tensor([3.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    groups = torch.tensor([0] * 8 + [1] * 2)
    assert torch.equal(top_share(rewards, groups), torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 0, 0, 0]))


def test_pairs_set_the_best_against_the_worst_of_the_same_group():
    rewards = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.2, 0.8, 0.4, 0.6, 1.0, 1.0])
    groups = torch.tensor([0] * 8 + [1] * 2)
    assert preference_pairs(rewards, groups).tolist() == [[1, 0], [5, 4]]
    assert preference_pairs(rewards, groups, margin=0.7).tolist() == [[1, 0]]
    assert preferred(rewards, groups).tolist() == [-1, 1, 0, 0, -1, 1, 0, 0, 0, 0]


def test_live_episodes_stand_in_groups_with_spread():
    rewards = torch.tensor([0.5, 0.5, 0.5, 0.6])
    assert live_episodes(rewards, torch.tensor([0, 0, 1, 1])).tolist() == [False, False, True, True]


def test_the_scale_of_a_plan_names_the_estimator():
    from sia_flow.training.admission import settle
    from sia_flow.training.types import PullConfig

    rewards, groups = torch.tensor([0.0, 1.0, 0.0, 0.1]), torch.tensor([0, 0, 1, 1])
    found = {
        scale: ESTIMATORS[settle(PullConfig(scale=scale)).algorithm.estimator](rewards, groups)
        for scale in ("group", "batch", "none")
    }
    assert torch.allclose(found["group"][1], found["group"][3], atol=1e-2)
    assert torch.allclose(found["none"], torch.tensor([-0.5, 0.5, -0.05, 0.05]))
    assert torch.allclose(found["batch"][1] / found["batch"][3], torch.tensor(10.0))
