"""From a measured batch to what the loss reads.

Without a critic dead groups are left out and one advantage an episode is broadcast to its sampled tokens; with
one, each token has its own. Invariant: group statistics are over episodes, never over rows, so that a long
episode does not count twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_flow.errors import TrainingError
from sia_flow.training.admission import Settings
from sia_flow.training.advantages import ESTIMATORS, live_episodes, preference_pairs
from sia_flow.training.algorithms import Algorithm, Critic
from sia_flow.training.batch import Batch
from sia_flow.training.forward import Measured
from sia_flow.training.gae import gae
from sia_flow.training.losses import Stream

_NO_PAIRS = torch.empty((0, 2), dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class Target:
    """What a critic learns from a batch."""

    values: Tensor
    """[N] what it said before."""
    returns: Tensor
    """[N] what it should have said."""
    clip: float

    @property
    def explained(self) -> float:
        """Return the share of the returns' variance that the values explained; 0 where there is none."""
        spread = float(self.returns.var(correction=0))
        return 1.0 - float((self.returns - self.values).var(correction=0)) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Credited:
    """The part of a batch that trains, with its credit."""

    batch: Batch
    stream: Stream
    ess: float
    """Effective number of episodes: (sum |A|)^2 / sum A^2."""
    target: Target | None = None
    """For a critic, where the algorithm has one."""


def check_groups(batch: Batch, algorithm: Algorithm) -> None:
    """Raise TrainingError if a group is too small for the algorithm to compare anything in it."""
    smallest = int(torch.bincount(batch.groups).min())
    if smallest < algorithm.min_group:
        raise TrainingError(
            f"{algorithm.name} needs groups of at least {algorithm.min_group} episodes, the smallest has "
            f"{smallest}; raise training.samples"
        )


def dead_groups(batch: Batch) -> int:
    """Return how many groups have no spread of rewards."""
    live = live_episodes(batch.rewards, batch.groups)
    return len(torch.unique(batch.groups[~live]))


def credit(batch: Batch, measured: Measured, settings: Settings) -> Credited | None:
    """Return the credited part of a batch, or None if no episode carries a gradient."""
    if settings.algorithm.critic is not None:
        return _by_critic(batch, measured, settings, settings.algorithm.critic)
    return _by_group(batch, measured, settings)


def _by_group(batch: Batch, measured: Measured, settings: Settings) -> Credited | None:
    algorithm = settings.algorithm
    advantage = ESTIMATORS[algorithm.estimator](batch.rewards, batch.groups)
    has_tokens = torch.bincount(batch.row_episode, minlength=len(batch.rewards)) > 0
    live = live_episodes(batch.rewards, batch.groups) & has_tokens
    if algorithm.only_credited:
        live = live & (advantage != 0)
    pairs = _pairs(batch, live) if algorithm.loss == "dpo" else _NO_PAIRS
    if not bool((advantage[live] != 0).any()) or (algorithm.loss == "dpo" and not len(pairs)):
        return None
    kept, tokens = batch.keep(live)
    advantage = advantage[live]
    episode = kept.token_episode
    token_credit = advantage[episode].float()
    if algorithm.kl_in == "reward":
        token_credit = token_credit - settings.kl * _penalty_to_go(measured, tokens, episode)
    if algorithm.normalise:
        token_credit = token_credit / token_credit.square().mean().sqrt().clamp(min=1e-6)
    stream = _stream(kept, measured.base[tokens], token_credit, settings, pairs)
    return Credited(kept, stream, _effective(advantage))


def _by_critic(batch: Batch, measured: Measured, settings: Settings, critic: Critic) -> Credited | None:
    """Credit each token by GAE, whitened over the batch; equal rewards everywhere carry nothing."""
    if measured.values is None or bool((batch.rewards == batch.rewards[0]).all()):
        return None
    rewards = -settings.kl * (measured.logprobs - measured.base).double()
    row, episode = batch.token_row, batch.token_episode
    rewards[_lasts(row)] += batch.arrivals
    earned, expected, last = (x.cpu().numpy() for x in (rewards, measured.values.double(), _lasts(episode)))
    found = gae(earned, expected, last, critic.gamma, critic.lam)
    advantage, returns = (torch.from_numpy(values).to(row.device) for values in found)
    spread = advantage.std(correction=0)
    if not bool(spread > 0):
        return None
    whitened = (advantage - advantage.mean()) / spread
    total = torch.zeros_like(batch.rewards).index_add(0, episode, whitened)
    stream = _stream(batch, measured.base, whitened.float(), settings, _NO_PAIRS)
    target = Target(measured.values, returns.float(), critic.clip)
    return Credited(batch, stream, _effective(total), target)


def _stream(batch: Batch, base: Tensor, advantage: Tensor, settings: Settings, pairs: Tensor) -> Stream:
    return Stream(
        advantage=advantage,
        old=batch.old,
        base=base,
        row=batch.token_row,
        episode=batch.token_episode,
        pairs=pairs.to(advantage.device),
        clip=settings.clip,
        kl=settings.kl if settings.algorithm.kl_in == "loss" else 0.0,
    )


def _effective(advantage: Tensor) -> float:
    return float(advantage.abs().sum() ** 2 / advantage.square().sum())


def _lasts(numbers: Tensor) -> Tensor:
    """Return which tokens [N] are the last of their row or episode, given its number [N]."""
    return torch.cat([numbers[1:] != numbers[:-1], numbers.new_ones(1, dtype=torch.bool)])


def _pairs(batch: Batch, live: Tensor) -> Tensor:
    """Return the preference pairs of live episodes, renumbered as `Batch.keep` does, [P, 2]."""
    pairs = preference_pairs(batch.rewards, batch.groups)
    return (torch.cumsum(live, 0) - 1)[pairs[live[pairs].all(1)]]


def _penalty_to_go(measured: Measured, tokens: Tensor, episode: Tensor) -> Tensor:
    """Return the log-ratio to the base summed from each kept token to its episode's end, less its mean."""
    ratio = (measured.logprobs - measured.base)[tokens].double()
    total = torch.cumsum(ratio, 0)
    last = torch.zeros(int(episode.max()) + 1, dtype=ratio.dtype, device=ratio.device)
    last = last.scatter_reduce(0, episode, torch.arange(len(ratio), device=ratio.device).to(ratio.dtype), "amax")
    to_go = total[last.long()[episode]] - total + ratio
    return (to_go - to_go.mean()).float()
