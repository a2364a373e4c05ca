"""Credited batches as the padded rows that TRL's trainers read.

Invariant: a row is one model call, in the order of the stream; every sampled token stands in exactly one row,
and nothing else is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_flow.errors import TrainingError
from sia_flow.training.batch import Batch

IGNORED = -100
"""Label of a position without loss."""

Inputs = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a batch, right-padded."""

    ids: Tensor
    """int64 [B, T]"""
    sampled: Tensor
    """bool [B, T]"""

    @classmethod
    def of(cls, batch: Batch, rows: Tensor | slice = slice(None)) -> Rows:
        """Return the chosen rows, trimmed to their longest."""
        calls = batch.row_call[rows]
        sampled = batch.sampled[calls]
        width = int(sampled.any(0).nonzero().max()) + 1
        return cls(batch.tokens[calls, :width], sampled[:, :width])

    @property
    def prompt(self) -> Tensor:
        """Return how many tokens come before the first sampled one, [B]."""
        return self.sampled.int().argmax(1)

    @property
    def attention(self) -> Tensor:
        """Return which positions are a row's own, [B, T]."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < (self.prompt + self.sampled.sum(1))[:, None]

    @property
    def labels(self) -> Tensor:
        """Return the sampled tokens, and `IGNORED` elsewhere, [B, T]."""
        return self.ids.masked_fill(~self.sampled, IGNORED)

    def split(self) -> Inputs:
        """Return prompts [B, P], padded on the left, and completions [B, C], padded on the right."""
        prompt, drawn = self.prompt, self.sampled.sum(1)
        before = torch.arange(int(prompt.max()), device=self.ids.device) - (prompt.max() - prompt)[:, None]
        after = torch.arange(int(drawn.max()), device=self.ids.device).expand(len(self.ids), -1)
        behind = (after + prompt[:, None]).clamp(max=self.ids.shape[1] - 1)
        return {
            "prompt_ids": self.ids.gather(1, before.clamp(min=0)),
            "prompt_mask": (before >= 0).long(),
            "completion_ids": self.ids.gather(1, behind),
            "completion_mask": (after < drawn[:, None]).long(),
        }


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Lay one value [n] for each marked position out as the `mask` [B, C] stands, 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask.bool(), values)


def one_temperature(batch: Batch) -> float:
    """Return the temperature of all calls. Raises TrainingError if they have several."""
    found = torch.unique(batch.temperature).tolist()
    if len(found) > 1:
        raise TrainingError(
            f"training.engine trl trains at one temperature, the model calls of a batch have {found}; "
            "let the scaffold sample at one, or set training.engine: peft"
        )
    return float(found[0])


def only_rows(batch: Batch) -> Tensor:
    """Return the row of each episode, [E]. Raises TrainingError if one has several or none."""
    count = torch.bincount(batch.row_episode, minlength=len(batch.rewards))
    if bool((count != 1).any()):
        raise TrainingError(
            "training.engine trl compares single model calls in dpo, and an episode of the batch has "
            f"{int(count.max())}; set training.engine: peft or another algorithm"
        )
    return torch.argsort(batch.row_episode)
