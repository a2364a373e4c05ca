"""Rows of tokens for teacher forcing: prompts and the completions that were sampled after them.

Invariant: token ids come from the sampler's records; text is never tokenised a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Sampled(Protocol):
    """Anything with a prompt and a completion in token ids: a `Turn`, a `Completion`."""

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Tokens of the rendered prompt."""

    @property
    def completion_ids(self) -> tuple[int, ...]:
        """Sampled tokens."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """B rows; row i is `prompts[i]` followed by `completions[i]`, both at least one token long."""

    prompts: tuple[tuple[int, ...], ...]
    completions: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.completions):
            raise ValueError(f"{len(self.prompts)} prompts for {len(self.completions)} completions")
        if not all(self.prompts) or not all(self.completions):
            raise ValueError("a row needs at least one prompt token and one completion token")

    def __len__(self) -> int:
        return len(self.prompts)

    @classmethod
    def of(cls, turns: Iterable[Sampled]) -> TokenRows:
        """Return the rows of model calls, in order."""
        rows = tuple(turns)
        return cls(tuple(row.prompt_ids for row in rows), tuple(row.completion_ids for row in rows))


class Batch(NamedTuple):
    """Right-padded tensors of B rows, L tokens wide, completions T wide."""

    input_ids: Tensor
    """int64 [B, L]"""
    targets: Tensor
    """int64 [B, T]: completion tokens, 0 where padded."""
    mask: Tensor
    """bool [B, T]: true on completion tokens."""
    at: Tensor
    """int64 [B, T]: position in the row whose logits predict the target."""


def collate(rows: TokenRows, pad: int, device: str = "cpu") -> Batch:
    """Return right-padded tensors: under a causal mask, padding after the tokens changes nothing."""
    import torch

    width = max(len(p) + len(c) for p, c in zip(rows.prompts, rows.completions, strict=True))
    longest = max(len(c) for c in rows.completions)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    targets = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    starts = torch.tensor([len(p) - 1 for p in rows.prompts])
    for i, (prompt, completion) in enumerate(zip(rows.prompts, rows.completions, strict=True)):
        ids[i, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        targets[i, : len(completion)] = torch.tensor(completion)
        mask[i, : len(completion)] = True
    index = (starts[:, None] + torch.arange(longest)).clamp(max=width - 1)
    return Batch(*(tensor.to(device) for tensor in (ids, targets, mask, index)))
