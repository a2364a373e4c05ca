"""The critic: what it reads, what it learns, and that it stays out of the adapter."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sia_flow.errors import TrainingError
from sia_flow.training.admission import settle
from sia_flow.training.backend import open_backend
from sia_flow.training.batch import collate
from sia_flow.training.credit import Target, credit
from sia_flow.training.forward import measure, score
from sia_flow.training.gae import gae
from sia_flow.training.trainer import pull
from sia_flow.training.types import Episode, PullConfig
from sia_flow.training.value import value_head, value_loss
from tests.training.world import PROMPTS, VOCAB, Bandit, ToyPolicy, smooth_table

PPO = PullConfig("ppo", iterations=3, learning_rate=1e-2)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_turns(policy, samples=6, seed=0):
    """Episodes of two calls; the reward of each is whether it began with an even token."""
    turns = [policy.sample(prompt, samples, seed + i) for i, prompt in enumerate(PROMPTS)]
    found = []
    for pair in zip(*turns, strict=True):
        shares = tuple(float(turn.completion_ids[0] % 2 == 0) for turn in pair)
        found.append(Episode("g", pair, sum(shares), True, shares))
    return found


def test_the_value_loss_agrees_with_finite_differences():
    values, old, returns = normal(40).requires_grad_(), 0.3 * normal(40, seed=1), normal(40, seed=2)
    assert torch.autograd.gradcheck(lambda v: value_loss(v, old, returns, 0.2), (values,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "returns", "loss", "slope"),
    [
        (0.1, 1.0, 0.405, -0.9),
        (0.5, 1.0, 0.32, 0.0),
        (0.5, 0.0, 0.125, 0.5),
        (-0.5, 1.0, 1.125, -1.5),
    ],
    ids=["near", "beyond the clip, towards", "beyond, away", "beyond, away below"],
)
def test_a_value_that_went_far_towards_its_return_is_left_alone(value, returns, loss, slope):
    found = torch.tensor([value], requires_grad=True)
    errors = value_loss(found, torch.zeros(1), torch.tensor([returns]), 0.2)
    errors.sum().backward()
    assert errors.item() == pytest.approx(loss)
    assert found.grad.item() == pytest.approx(slope)


def test_the_critic_reads_what_the_model_s_head_reads():
    policy = ToyPolicy()
    (chunk,) = collate(two_turns(policy)).chunks(100)
    log_p, states = score(policy.model, chunk, states=True)
    head = policy.model.get_output_embeddings()
    assert torch.allclose(torch.log_softmax(head(states), -1), log_p, atol=1e-5)
    assert not states.requires_grad


def test_each_token_is_credited_with_what_came_after_it():
    policy = ToyPolicy()
    batch = collate(two_turns(policy))
    settings = settle(replace(PPO, kl=0.5))
    backend = open_backend(policy, settings)
    measured = backend.measure(batch)
    assert measured.values is not None
    assert not measured.values.any()
    guess = normal(len(batch.old)).float()
    shifted = replace(measured, values=guess, base=measured.base - 0.1)
    found = credit(batch, shifted, settings)
    rewards = torch.full((len(batch.old),), -0.05, dtype=torch.float64)
    for row in range(len(batch.row_call)):
        place = int((batch.token_row == row).nonzero().max())
        rewards[place] += float(two_turns(policy)[row // 2].turn_rewards[row % 2])
    last = np.append(np.diff(batch.token_episode.numpy()) > 0, True)
    expected = gae(rewards.numpy(), guess.double().numpy(), last)
    whitened = (expected.advantages - expected.advantages.mean()) / expected.advantages.std()
    assert torch.allclose(found.stream.advantage, torch.from_numpy(whitened).float(), atol=1e-5)
    assert torch.allclose(found.target.returns, torch.from_numpy(expected.returns).float(), atol=1e-5)
    assert torch.equal(found.target.values, guess)


def test_a_share_of_a_turn_without_tokens_goes_to_the_turn_before_it():
    first, second, third = ToyPolicy().sample(PROMPTS[0], 3, 1)
    greedy = second.model_copy(update={"temperature": 0.0})
    turns, shares = (greedy, first, greedy, third), (1.0, 2.0, 4.0, 8.0)
    assert collate([Episode("g", turns, 15.0, True, shares)]).arrivals.tolist() == [7.0, 8.0]
    assert collate([Episode("g", (first, third, greedy), 3.0, True)]).arrivals.tolist() == [0.0, 3.0]


def test_shares_that_cannot_be_true_are_refused():
    (turn,) = ToyPolicy().sample(PROMPTS[0], 1, 1)
    with pytest.raises(TrainingError, match="1 turns but 2 turn_rewards"):
        collate([Episode("g", (turn,), 1.0, True, (0.5, 0.5))])
    with pytest.raises(TrainingError, match=r"add up to 0\.5, its reward is 1"):
        collate([Episode("g", (turn,), 1.0, True, (0.5,))])


def gradients(calls, target):
    """Return the head's gradient, the adapter's gradient and the value loss of one batch in chunks of `calls`."""
    policy = ToyPolicy()
    episodes = two_turns(policy)
    batch = collate([*episodes, *episodes[:3]])
    settings = settle(replace(PPO, micro_batch=calls))
    backend = open_backend(policy, settings)
    found = credit(batch, backend.measure(batch), settings)
    known = Target(found.target.values + 0.1, found.target.returns, 0.2)
    figures = backend.forward_backward(replace(found, target=known if target else None), "clipped")
    adapter = torch.cat([p.grad.flatten() for _, p in policy.adapter()])
    head = backend._head.weight.grad
    return head, adapter, figures.get("value_loss")


def test_chunks_and_repeated_calls_change_nothing_and_the_adapter_does_not_feel_the_critic():
    whole, pieces, without = gradients(100, True), gradients(5, True), gradients(100, False)
    assert whole[0].abs().max() > 1e-3
    assert torch.allclose(whole[0], pieces[0], atol=1e-6)
    assert whole[2] == pytest.approx(pieces[2], rel=1e-5)
    assert without[0] is None
    assert torch.equal(whole[1], without[1])


def test_the_critic_learns_what_a_prompt_is_worth(tmp_path):
    policy = ToyPolicy()
    table = torch.zeros(2, VOCAB, dtype=torch.float64)
    table[0] = 1.0
    bandit = Bandit(policy, table, samples=16, length=1)
    plan = replace(PPO, iterations=14, learning_rate=1e-3)
    update = pull(policy, bandit.collect, plan, tmp_path)
    assert update.steps[0]["explained_variance"] == 0.0
    assert update.steps[-1]["explained_variance"] > 0.8
    assert update.steps[-1]["value_loss"] < update.steps[0]["value_loss"] / 4


def test_the_critic_is_in_the_checkpoint_and_not_in_the_adapter(tmp_path):
    policy = ToyPolicy()
    update = pull(policy, Bandit(policy, smooth_table()).collect, PPO, tmp_path)
    kept = load_file(tmp_path / "steps" / "00003" / "tensors.safetensors")
    assert kept["critic/value_head.weight"].any()
    assert kept["exp_avg_sq/value_head.weight"].any()
    assert all("lora_" in name for name in load_file(update.adapter / "adapter_model.safetensors"))


def test_equal_rewards_everywhere_train_nothing(tmp_path):
    policy = ToyPolicy()
    bandit = Bandit(policy, torch.full((2, VOCAB), 0.4, dtype=torch.float64))
    assert pull(policy, bandit.collect, PPO, tmp_path).status == "skipped"
    assert policy.version == ToyPolicy().version


class Opaque(torch.nn.Module):
    """A model that says nothing of its hidden states."""

    def __init__(self):
        super().__init__()
        self.lora_a = torch.nn.Parameter(torch.zeros(2))


def test_a_model_that_hides_its_states_is_refused_before_any_rollout(tmp_path):
    policy = ToyPolicy()
    policy.model = Opaque()

    def unwanted(iteration, seed):
        raise AssertionError

    with pytest.raises(TrainingError, match=r"ppo needs the policy's hidden states.*grpo"):
        pull(policy, unwanted, PPO, tmp_path)


def test_a_fresh_head_draws_no_random_number():
    policy = ToyPolicy()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    head = value_head(policy.model, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    batch = collate(two_turns(policy))
    assert not measure(policy.model, batch, 100, head).values.any()


def test_the_explained_share_of_the_returns():
    returns = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert Target(returns, returns, 0.2).explained == 1.0
    assert Target(torch.zeros(4), returns, 0.2).explained == 0.0
    assert Target(returns, torch.ones(4), 0.2).explained == 0.0
    assert math.isclose(Target(returns / 2, returns, 0.2).explained, 0.75)
