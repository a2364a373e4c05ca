import math

import pytest
import torch

from sia_flow.training.losses import (
    Stream,
    aggregate,
    clip_fraction,
    clipped,
    clipped_surrogate,
    cross_entropy,
    dpo,
    dpo_loss,
    importance_sampling,
    k3,
    kl_penalty,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stream(logprobs: torch.Tensor, **changes) -> Stream:
    count = len(logprobs)
    values = {
        "advantage": normal(count, seed=5),
        "old": logprobs.detach() + 0.3 * normal(count, seed=6),
        "base": logprobs.detach() + 0.2 * normal(count, seed=7),
        "row": torch.arange(count) // 3,
        "episode": torch.arange(count) // 3,
        "pairs": torch.tensor([[0, 1], [2, 3]]),
        "kl": 0.1,
    }
    return Stream(**{**values, **changes})


@pytest.mark.parametrize(
    ("advantage", "ratio", "live"),
    [
        (1.0, 1.0, True),
        (1.0, 1.3, False),
        (1.0, 0.5, True),
        (-1.0, 0.5, False),
        (-1.0, 1.5, True),
        (-1.0, 1.0, True),
    ],
)
def test_clipped_surrogate_and_its_gradient(advantage, ratio, live):
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    credit = torch.tensor([advantage])
    loss = clipped_surrogate(logprobs, torch.zeros(1), credit)
    loss.sum().backward()
    assert loss.item() == pytest.approx(-min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage), abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(-advantage * ratio if live else 0.0, abs=1e-6)
    assert clip_fraction(logprobs.detach(), torch.zeros(1), credit, 0.2).item() == float(not live)


@pytest.mark.parametrize("loss", [clipped, importance_sampling, cross_entropy, dpo])
def test_gradients_agree_with_finite_differences(loss):
    logprobs = normal(12).requires_grad_()
    inputs = stream(logprobs, advantage=normal(12, seed=5).abs() + 0.1)
    assert torch.autograd.gradcheck(lambda x: loss(x, inputs), (logprobs,), eps=1e-6, atol=1e-6)


def test_aggregation_modes_on_ragged_rows():
    values, row = torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.tensor([0, 0, 0, 1])
    assert aggregate(values, row).item() == 4.0
    assert aggregate(values, row, "row_mean").item() == 6.0
    assert aggregate(values, row, "constant", 4.0).item() == 2.0


def test_k3_is_not_negative_and_unbiased_for_the_divergence():
    p, q = torch.softmax(normal(9), 0), torch.softmax(normal(9, seed=2), 0)
    estimate = k3(p.log(), q.log())
    assert (estimate >= 0).all()
    assert torch.allclose((p * estimate).sum(), (p * (p / q).log()).sum())


def test_the_penalty_has_the_gradient_of_the_divergence_to_the_base():
    theta, base = normal(7).requires_grad_(), torch.log_softmax(normal(7, seed=3), 0)
    p = torch.softmax(theta, 0)
    exact = torch.autograd.grad((p * (p.log() - base)).sum(), theta)[0]
    sampler = torch.softmax(theta.detach() + 0.5 * normal(7, seed=4), 0)
    logprobs = torch.log_softmax(theta, 0)
    inputs = stream(logprobs, old=sampler.log(), base=base)
    expected = (sampler * kl_penalty(logprobs, inputs)).sum()
    assert torch.allclose(torch.autograd.grad(expected, theta)[0], exact)


def test_importance_sampling_has_the_exact_policy_gradient_on_a_bandit():
    theta, rewards = normal(6).requires_grad_(), torch.rand(6, dtype=torch.float64)
    exact = torch.autograd.grad((torch.softmax(theta, 0) * rewards).sum(), theta)[0]
    sampler = torch.softmax(normal(6, seed=1), 0)
    logprobs = torch.log_softmax(theta, 0)
    one = [
        importance_sampling(
            logprobs[i : i + 1], stream(logprobs[:1], advantage=rewards[i] - 0.37, old=sampler[i].log(), kl=0)
        )
        for i in range(6)
    ]
    assert torch.allclose(torch.autograd.grad((sampler * torch.stack(one)).sum(), theta)[0], -exact)


def test_entropic_weights_give_the_gradient_of_the_log_mean_exponential():
    theta, rewards, beta = normal(6).requires_grad_(), torch.rand(6, dtype=torch.float64), 4.0
    p, logprobs = torch.softmax(theta, 0), torch.log_softmax(theta, 0)
    tilted = torch.exp(beta * rewards)
    exact = torch.autograd.grad(torch.log((p * tilted).sum()), theta, retain_graph=True)[0]
    weights = tilted / (p.detach() * tilted).sum()
    estimate = torch.autograd.grad((p.detach() * (weights - 1) * logprobs).sum(), theta)[0]
    assert torch.allclose(estimate, exact)


def test_cross_entropy_weights_tokens_by_credit():
    logprobs = torch.tensor([-1.0, -2.0, -3.0])
    inputs = stream(logprobs, advantage=torch.tensor([1.0, 0.0, 3.0]))
    assert cross_entropy(logprobs, inputs).item() == pytest.approx(10 / 4)


def test_dpo_has_its_closed_form_and_gradient():
    better, worse = torch.tensor([-5.0], requires_grad=True), torch.tensor([-7.0])
    loss = dpo_loss(better, worse, torch.tensor([-6.0]), torch.tensor([-6.5]), 0.1)
    loss.sum().backward()
    sigmoid = 1 / (1 + math.exp(-0.1 * (2.0 - 0.5)))
    assert loss.item() == pytest.approx(-math.log(sigmoid))
    assert better.grad.item() == pytest.approx(-0.1 * (1 - sigmoid))


def test_dpo_sums_over_the_tokens_of_each_episode():
    logprobs = normal(12)
    inputs = stream(logprobs)
    sums, base = logprobs.view(4, 3).sum(1), inputs.base.view(4, 3).sum(1)
    expected = dpo_loss(sums[[0, 2]], sums[[1, 3]], base[[0, 2]], base[[1, 3]]).mean()
    assert torch.allclose(dpo(logprobs, inputs), expected)
    assert dpo(inputs.base, inputs).item() == pytest.approx(math.log(2))
