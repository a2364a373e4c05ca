"""Losses on flat streams of N sampled tokens.

Invariant: a loss sees log-probabilities, credit and indices, never a model or a task; its gradient with
respect to them is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Aggregation = Literal["token_mean", "row_mean", "constant"]


@dataclass(frozen=True, slots=True)
class Stream:
    """What a loss may read beside the current log-probabilities."""

    advantage: Tensor
    """[N] credit of each sampled token."""
    old: Tensor
    """[N] log-probability under the policy that sampled it."""
    base: Tensor
    """[N] log-probability under the bare base model."""
    row: Tensor
    """[N] which model call the token belongs to, 0..B-1."""
    episode: Tensor
    """[N] which episode, 0..E-1."""
    pairs: Tensor
    """[P, 2] episode indices (better, worse)."""
    clip: float = 0.2
    kl: float = 0.0


Loss = Callable[[Tensor, Stream], Tensor]
"""(log-probabilities [N], stream) -> scalar."""


def aggregate(values: Tensor, row: Tensor, mode: Aggregation = "token_mean", constant: float = 1.0) -> Tensor:
    """Return one number for per-token `values` [N].

    `token_mean`: mean over tokens (DAPO). `row_mean`: mean over rows of the row's mean (GRPO). `constant`:
    sum over rows x `constant` (Dr. GRPO, with the longest completion as constant).
    """
    if mode == "token_mean":
        return values.mean()
    rows = int(row.max()) + 1
    if mode == "constant":
        return values.sum() / (rows * constant)
    sums = torch.zeros(rows, dtype=values.dtype, device=values.device).index_add(0, row, values)
    return (sums / torch.bincount(row, minlength=rows).clamp(min=1)).mean()


def clipped_surrogate(logprobs: Tensor, old: Tensor, advantage: Tensor, clip: float = 0.2) -> Tensor:
    """Return -min(ratio A, clamp(ratio, 1 - clip, 1 + clip) A), each (PPO, arXiv 1707.06347, eq. 7)."""
    ratio = torch.exp(logprobs - old)
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def clip_fraction(logprobs: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return the share of tokens without gradient because their ratio left the trust interval."""
    ratio = torch.exp(logprobs - old)
    return (((ratio > 1 + clip) & (advantage > 0)) | ((ratio < 1 - clip) & (advantage < 0))).float().mean()


def k3(logprobs: Tensor, base: Tensor) -> Tensor:
    """Return exp(d) - d - 1 with d = base - logprobs, elementwise: >= 0, unbiased for KL(policy || base).

    Schulman's third estimator (2020, joschu.net/blog/kl-approx.html).
    """
    delta = base - logprobs
    return torch.exp(delta) - delta - 1


def kl_penalty(logprobs: Tensor, stream: Stream) -> Tensor:
    """Return ratio x k3, elementwise.

    The ratio makes the expected gradient that of KL(policy || base); without it, it is that of KL(base ||
    policy).
    """
    return torch.exp(logprobs - stream.old) * k3(logprobs, stream.base)


def clipped(logprobs: Tensor, stream: Stream) -> Tensor:
    """Return the mean over tokens of the clipped surrogate plus kl x the penalty to the base."""
    loss = clipped_surrogate(logprobs, stream.old, stream.advantage, stream.clip)
    if stream.kl:
        loss = loss + stream.kl * kl_penalty(logprobs, stream)
    return aggregate(loss, stream.row)


def importance_sampling(logprobs: Tensor, stream: Stream) -> Tensor:
    """Return the mean over tokens of -ratio A, with kl x the penalty to the base."""
    loss = -torch.exp(logprobs - stream.old) * stream.advantage
    if stream.kl:
        loss = loss + stream.kl * kl_penalty(logprobs, stream)
    return aggregate(loss, stream.row)


def cross_entropy(logprobs: Tensor, stream: Stream) -> Tensor:
    """Return the mean of -log-probability, weighted by the credit."""
    return -(logprobs * stream.advantage).sum() / stream.advantage.sum().clamp(min=1e-8)


def dpo_loss(better: Tensor, worse: Tensor, base_better: Tensor, base_worse: Tensor, beta: float = 0.1) -> Tensor:
    """Return -log sigmoid(beta x margin) for each pair of episode sums (DPO, arXiv 2305.18290, eq. 7)."""
    return -functional.logsigmoid(beta * ((better - worse) - (base_better - base_worse)))


def dpo(logprobs: Tensor, stream: Stream, beta: float = 0.1) -> Tensor:
    """Return the mean of `dpo_loss` over the stream's pairs of episodes."""
    episodes = int(stream.episode.max()) + 1
    zeros = torch.zeros(episodes, dtype=logprobs.dtype, device=logprobs.device)
    current = zeros.index_add(0, stream.episode, logprobs)
    base = zeros.index_add(0, stream.episode, stream.base)
    better, worse = stream.pairs[:, 0], stream.pairs[:, 1]
    return dpo_loss(current[better], current[worse], base[better], base[worse], beta).mean()


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "clipped": clipped,
        "importance_sampling": importance_sampling,
        "cross_entropy": cross_entropy,
        "dpo": dpo,
    }
)
