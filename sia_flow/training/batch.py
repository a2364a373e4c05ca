"""Episodes as tensors: rows (one a model call), their distinct calls, one flat stream of the sampled tokens.

Invariant: token ids and behaviour log-probabilities are the recorded ones; text is never tokenised again.
The stream's order is episodes, then turns, then positions. Equal calls are computed once: a group's rollouts
often agree, and a policy that learns agrees ever more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sia_flow.errors import TrainingError
from sia_flow.lineage.records import Turn
from sia_flow.training.types import Episode


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive distinct calls, trimmed to their longest."""

    tokens: Tensor
    """int64 [c, t], right-padded: under a causal mask padding after the tokens changes nothing."""
    sampled: Tensor
    """bool [c, t]: true where the token was sampled."""
    temperature: Tensor
    """[c]"""
    start: int
    stop: int
    """Where its sampled tokens stand among those of all distinct calls."""


@dataclass(frozen=True, slots=True)
class Batch:
    """E episodes, B rows, N sampled tokens; C distinct calls with M sampled tokens."""

    tokens: Tensor
    """int64 [C, T]"""
    sampled: Tensor
    """bool [C, T]"""
    temperature: Tensor
    """[C]"""
    row_call: Tensor
    """int64 [B]: which distinct call the row is."""
    row_episode: Tensor
    """int64 [B]"""
    old: Tensor
    """[N]"""
    arrivals: Tensor
    """float64 [B]: reward that comes after each row; those of an episode add up to its reward."""
    rewards: Tensor
    """float64 [E]"""
    groups: Tensor
    """int64 [E], numbered by first appearance."""
    valid_rate: float

    @property
    def token_row(self) -> Tensor:
        """Return the row of each sampled token, [N]."""
        lengths = self.sampled.sum(1)[self.row_call]
        return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)

    @property
    def token_episode(self) -> Tensor:
        """Return the episode of each sampled token, [N]."""
        return self.row_episode[self.token_row]

    @property
    def token_source(self) -> Tensor:
        """Return where each sampled token stands among those of the distinct calls, [N] of 0..M-1."""
        lengths = self.sampled.sum(1)
        first_source = (torch.cumsum(lengths, 0) - lengths)[self.row_call]
        lengths = lengths[self.row_call]
        first_token = torch.cumsum(lengths, 0) - lengths
        row = self.token_row
        return first_source[row] + torch.arange(len(row), device=row.device) - first_token[row]

    def chunks(self, calls: int) -> Iterator[Chunk]:
        """Yield pieces of at most `calls` distinct calls that together cover them in order."""
        start = 0
        for first in range(0, len(self.tokens), calls):
            part = slice(first, first + calls)
            sampled = self.sampled[part]
            width = int(sampled.any(0).nonzero().max()) + 1
            stop = start + int(sampled.sum())
            yield Chunk(self.tokens[part, :width], sampled[:, :width], self.temperature[part], start, stop)
            start = stop

    def keep(self, episodes: Tensor) -> tuple[Batch, Tensor]:
        """Return the batch with only the chosen `episodes` (bool [E]), and which tokens (bool [N]) it has."""
        rows = episodes[self.row_episode]
        tokens = rows[self.token_row]
        calls, row_call = torch.unique(self.row_call[rows], return_inverse=True)
        number = torch.cumsum(episodes, 0) - 1
        kept = Batch(
            self.tokens[calls],
            self.sampled[calls],
            self.temperature[calls],
            row_call,
            number[self.row_episode[rows]],
            self.old[tokens],
            self.arrivals[rows],
            self.rewards[episodes],
            self.groups[episodes],
            self.valid_rate,
        )
        return kept, tokens


def collate(episodes: Sequence[Episode], device: torch.device | str = "cpu") -> Batch:
    """Return the episodes as tensors. Greedy and empty model calls have no gradient and give no row.

    Raises TrainingError for no episode, no sampled token, and a reward or log-probability that is not finite.
    """
    if not episodes:
        raise TrainingError("no episode was collected; check that the rollouts have instances and samples")
    rows = [(number, turn) for number, episode in enumerate(episodes) for turn in episode.turns if _trains(turn)]
    if not rows:
        raise TrainingError("no episode has a sampled token; the scaffold must generate at a temperature above 0")
    for number, episode in enumerate(episodes):
        _check_rewards(number, episode)
    old = torch.tensor([value for _, turn in rows for value in turn.logprobs], dtype=torch.float32)
    if not bool(torch.isfinite(old).all()):
        raise TrainingError("a sampled token has a log-probability that is not finite; the policy is broken")
    calls: dict[_Call, int] = {}
    row_call = [calls.setdefault(_call(turn), len(calls)) for _, turn in rows]
    tokens, sampled = _pad(list(calls))
    names: dict[str, int] = {}
    groups = [names.setdefault(episode.group, len(names)) for episode in episodes]
    return Batch(
        tokens.to(device),
        sampled.to(device),
        torch.tensor([heat for _, _, heat in calls], dtype=torch.float32, device=device),
        torch.tensor(row_call, device=device),
        torch.tensor([number for number, _ in rows], device=device),
        old.to(device),
        torch.tensor([share for e in episodes for share in _arrivals(e)], dtype=torch.float64, device=device),
        torch.tensor([episode.reward for episode in episodes], dtype=torch.float64, device=device),
        torch.tensor(groups, device=device),
        sum(episode.valid for episode in episodes) / len(episodes),
    )


_Call = tuple[tuple[int, ...], tuple[int, ...], float]


def _call(turn: Turn) -> _Call:
    return turn.prompt_ids, turn.completion_ids, turn.temperature


def _trains(turn: Turn) -> bool:
    """Refuse turns whose record contradicts itself, and leave out those without a stochastic token."""
    if len(turn.logprobs) != len(turn.completion_ids):
        raise TrainingError(
            f"a model call has {len(turn.completion_ids)} tokens but {len(turn.logprobs)} log-probabilities"
        )
    return turn.temperature > 0 and bool(turn.completion_ids) and bool(turn.prompt_ids)


def _check_rewards(number: int, episode: Episode) -> None:
    name, shares = f"episode {number} of group {episode.group}", episode.turn_rewards
    if not math.isfinite(episode.reward):
        raise TrainingError(f"{name} has the reward {episode.reward}")
    if shares and len(shares) != len(episode.turns):
        raise TrainingError(f"{name} has {len(episode.turns)} turns but {len(shares)} turn_rewards; give one a turn")
    if shares and not math.isclose(math.fsum(shares), episode.reward, rel_tol=1e-6, abs_tol=1e-9):
        raise TrainingError(f"the turn_rewards of {name} add up to {math.fsum(shares)}, its reward is {episode.reward}")


def _arrivals(episode: Episode) -> list[float]:
    """Return the reward after each turn that gives a row; what came after another belongs to the row before it."""
    shares = episode.turn_rewards or (*[0.0] * (len(episode.turns) - 1), episode.reward)
    found: list[float] = []
    early = 0.0
    for turn, share in zip(episode.turns, shares, strict=bool(episode.turns)):
        if _trains(turn):
            found.append(early + share)
            early = 0.0
        elif found:
            found[-1] += share
        else:
            early += share
    return found


def _pad(calls: Sequence[_Call]) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) + len(completion) for prompt, completion, _ in calls)
    tokens = torch.zeros((len(calls), width), dtype=torch.int64)
    sampled = torch.zeros((len(calls), width), dtype=torch.bool)
    for row, (prompt, completion, _) in enumerate(calls):
        start, stop = len(prompt), len(prompt) + len(completion)
        tokens[row, :stop] = torch.tensor(prompt + completion)
        sampled[row, start:stop] = True
    return tokens, sampled
