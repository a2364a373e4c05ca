"""Every algorithm reaches the optimum of a bandit, as far as the frozen base lets anyone."""

import pytest
import torch

from sia_flow.training.algorithms import ALGORITHMS
from sia_flow.training.trainer import pull
from sia_flow.training.types import PullConfig
from tests.training.world import VOCAB, Bandit, ToyPolicy

pytestmark = pytest.mark.slow
GOALS = (5, 11)
"""The only rewarded token of each prompt; at the start it has one chance in twelve."""


@pytest.fixture(scope="module")
def optimum() -> float:
    """The highest value that any adapter could give.

    An adapter moves the last hidden state, whose norm is fixed and which a frozen head reads: the best state for
    each goal is found by ascent over the sphere, from 16 starts that agree.
    """
    model = ToyPolicy().model.get_base_model()
    head = (model.lm_head.weight * model.model.norm.weight).detach()
    goals = torch.tensor(GOALS).repeat_interleave(16)
    states = torch.randn(len(goals), head.shape[1], generator=torch.Generator().manual_seed(0)).requires_grad_()
    ascent = torch.optim.Adam([states], lr=0.05, maximize=True)
    for _ in range(400):
        ascent.zero_grad()
        unit = states / states.square().mean(1, keepdim=True).sqrt()
        chances = torch.softmax(unit @ head.T, 1).gather(1, goals[:, None]).view(len(GOALS), 16)
        chances.sum().backward()
        ascent.step()
    assert (chances.amax(1) - chances.amin(1)).max() < 1e-3
    return chances.amax(1).mean().item()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_finds_the_one_good_answer_to_each_prompt(tmp_path, algorithm, optimum):
    policy = ToyPolicy()
    table = torch.zeros(len(GOALS), VOCAB, dtype=torch.float64)
    table[range(len(GOALS)), GOALS] = 1.0
    bandit = Bandit(policy, table, samples=32, length=1)
    start = policy.value(table)
    plan = PullConfig(algorithm, iterations=24, learning_rate=10 * ALGORITHMS[algorithm].learning_rate)
    update = pull(policy, bandit.collect, plan, tmp_path)
    assert update.status == "ok"
    assert start < optimum / 5
    assert 0.95 * optimum < policy.value(table) < optimum
