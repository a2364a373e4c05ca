"""Exponential tilting of a group's rewards: which inverse temperature, and which weights.

Invariant: the weights do not change when all rewards are shifted or scaled by a positive number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LN2 = math.log(2.0)
"""TTT-Discover's budget in nats: the tilted distribution sits on half of the group, in the entropy sense."""

_STEEPEST = 1e6
_HALVINGS = 80


def kl_to_uniform(rewards: Tensor, beta: float) -> float:
    """Return KL(softmax(beta * rewards [G]) || uniform) in nats."""
    log_q = torch.log_softmax(beta * rewards.double(), dim=-1)
    return float((log_q.exp() * (log_q + math.log(len(rewards)))).sum())


def effective_samples(rewards: Tensor, beta: float) -> float:
    """Return 1 / sum(q^2) for q = softmax(beta * rewards [G]): from G (beta 0) down to the number of best."""
    log_q = torch.log_softmax(beta * rewards.double(), dim=-1)
    return float(torch.exp(-torch.logsumexp(2 * log_q, dim=-1)))


def kl_tilt(rewards: Tensor, budget: float = LN2) -> float:
    """Return the inverse temperature at which `kl_to_uniform` is `budget`, 0 if all rewards [G] are equal.

    Where ties of the best make the budget unreachable, it is 1e6 over the reward range: finite, all weight
    on them.
    """
    return _steepest_within(rewards, lambda scaled, beta: kl_to_uniform(scaled, beta) <= budget)


def ess_tilt(rewards: Tensor, floor: float) -> float:
    """Return the largest inverse temperature with `floor` effective samples, 0 for equal rewards [G]."""
    return _steepest_within(rewards, lambda scaled, beta: effective_samples(scaled, beta) >= floor)


def _steepest_within(rewards: Tensor, within: Callable[[Tensor, float], bool]) -> float:
    """Bisect on rewards scaled to [-1, 0], so that the answer scales exactly with them."""
    spread = float(rewards.max() - rewards.min()) if len(rewards) > 1 else 0.0
    if spread == 0.0:
        return 0.0
    scaled = (rewards.double() - rewards.max().double()) / spread
    low, high = 0.0, 1.0
    while within(scaled, high):
        if high >= _STEEPEST:
            return _STEEPEST / spread
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if within(scaled, middle) else (low, middle)
    return low / spread


def leave_one_out_weights(rewards: Tensor, beta: float, epsilon: float = 1e-12) -> Tensor:
    """Return exp(beta r_i) over the mean of the others' exp(beta r_j), shape [G], G >= 2.

    For beta -> 0, (w - 1) / beta tends to the leave-one-out advantage.
    """
    tilted = torch.exp(beta * (rewards - rewards.max()))
    return tilted / ((tilted.sum() - tilted) / (len(rewards) - 1) + epsilon)
