"""Credit: rewards of E episodes in groups -> one advantage for each episode.

Invariant: every estimator is a pure function of (rewards, groups), gives exactly zero where all rewards of
a group are equal; the order of the episodes matters to nothing but ties of preference pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from sia_flow.training.tilt import ess_tilt, kl_tilt, leave_one_out_weights

Estimator = Callable[[Tensor, Tensor], Tensor]
"""(rewards [E] float, groups [E] int) -> advantages [E]."""

Tilt = Callable[[Tensor], float]
"""Rewards of one group [G] -> inverse temperature."""


def members(groups: Tensor) -> Iterator[Tensor]:
    """Yield the episode indices [G] of each group, by ascending group number."""
    for group in torch.unique(groups):
        yield torch.nonzero(groups == group).squeeze(1)


def live_episodes(rewards: Tensor, groups: Tensor) -> Tensor:
    """Return which episodes [E] stand in a group whose rewards differ: the others carry no gradient."""
    live = torch.zeros_like(groups, dtype=torch.bool)
    for index in members(groups):
        group = rewards[index]
        live[index] = bool((group != group[0]).any())
    return live


def grpo(
    rewards: Tensor,
    groups: Tensor,
    scale: Literal["group", "batch", "none"] = "group",
    epsilon: float = 1e-4,
) -> Tensor:
    """Return (reward - group mean) / (standard deviation + epsilon), shape [E].

    Shao et al. 2024 (arXiv 2402.03300), unbiased standard deviation of the group or of the batch; `none` is
    Dr. GRPO (Liu et al. 2025, arXiv 2503.20783).
    """
    out = torch.zeros_like(rewards)
    for index in members(groups):
        group = rewards[index]
        if bool((group == group[0]).all()):
            continue
        centred = group - group.mean()
        out[index] = centred / (group.std() + epsilon) if scale == "group" else centred
    return out / (rewards.std() + epsilon) if scale == "batch" and len(rewards) > 1 else out


def rloo(rewards: Tensor, groups: Tensor) -> Tensor:
    """Return reward minus the mean of the group's others, shape [E] (Ahmadian et al., arXiv 2402.14740)."""
    out = torch.zeros_like(rewards)
    for index in members(groups):
        if len(index) > 1:
            out[index] = grpo(rewards[index], groups[index], "none") * (len(index) / (len(index) - 1))
    return out


def entropic(rewards: Tensor, groups: Tensor, tilt: Tilt = kl_tilt, clip: float = 50.0) -> Tensor:
    """Return w - 1 with w = exp(b r) over the mean of the group's other exp(b r), shape [E].

    `tilt` gives the inverse temperature b of a group: by default the largest for which KL(softmax(b r) ||
    uniform) <= ln 2 nats (TTT-Discover, arXiv 2601.16175). Groups of two make w unbounded, hence the clip and
    the preset's minimum of three.
    """
    out = torch.zeros_like(rewards)
    for index in members(groups):
        group = rewards[index].double()
        if bool((group == group[0]).all()):
            continue
        out[index] = (leave_one_out_weights(group, tilt(group)) - 1).clamp(max=clip).to(rewards.dtype)
    return out


def entropic_ess(rewards: Tensor, groups: Tensor, share: float = 1 / 4) -> Tensor:
    """Return `entropic` at the largest b that keeps `share` of each group as effective samples, shape [E].

    The paper's form (SIA, arXiv 2605.27276): weights exp(r / temperature), the temperature held where the
    effective sample size stays above a floor. The floor's height is ours: the paper gives none.
    """
    return entropic(rewards, groups, lambda group: ess_tilt(group, share * len(group)))


def top_share(rewards: Tensor, groups: Tensor, share: float = 1 / 8) -> Tensor:
    """Return 1 for the best `share` of each group else 0, shape [E].

    At least one, and only those above the group's worst. Ties at the cut are all taken, so that the choice
    does not depend on order.
    """
    out = torch.zeros_like(rewards)
    for index in members(groups):
        group = rewards[index]
        cut = group.topk(max(1, int(len(group) * share))).values[-1]
        out[index] = ((group >= cut) & (group > group.min())).to(rewards.dtype)
    return out


def preference_pairs(rewards: Tensor, groups: Tensor, share: float = 1 / 4, margin: float = 0.0) -> Tensor:
    """Return pairs (better, worse) of episode indices, shape [P, 2].

    The i-th best of a group stands against its i-th worst; `share` of each group on either side; a pair
    whose rewards differ by no more than `margin` is left out.
    """
    pairs = [torch.empty((0, 2), dtype=torch.int64)]
    for index in members(groups):
        group = rewards[index]
        order = torch.argsort(group, descending=True, stable=True)
        count = max(1, int(len(group) * share))
        best, worst = order[:count], order.flip(0)[:count]
        keep = group[best] - group[worst] > margin
        pairs.append(torch.stack([index[best[keep]], index[worst[keep]]], dim=1))
    return torch.cat(pairs)


def preferred(rewards: Tensor, groups: Tensor) -> Tensor:
    """Return +1 for the better episode of each pair, -1 for the worse, 0 for the rest, shape [E]."""
    pairs = preference_pairs(rewards, groups)
    out = torch.zeros_like(rewards)
    out[pairs[:, 0]] = 1.0
    out[pairs[:, 1]] = -1.0
    return out


def leave_one_out_baseline(rewards: Tensor, groups: Tensor) -> Tensor:
    """Return reward minus the mean of all other episodes of the batch, shape [E].

    REINFORCE (Williams 1992) with an independent baseline, hence unbiased; groups only tell which are dead.
    """
    if len(rewards) < 2 or bool((rewards == rewards[0]).all()):
        return torch.zeros_like(rewards)
    centred = (rewards - rewards.mean()) * (len(rewards) / (len(rewards) - 1))
    return centred * live_episodes(rewards, groups)


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        "grpo": grpo,
        "grpo_batch": functools.partial(grpo, scale="batch"),
        "grpo_none": functools.partial(grpo, scale="none"),
        "rloo": rloo,
        "entropic": entropic,
        "entropic_ess": entropic_ess,
        "top_share": top_share,
        "preferred": preferred,
        "leave_one_out_baseline": leave_one_out_baseline,
    }
)
