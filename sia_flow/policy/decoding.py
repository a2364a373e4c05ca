"""Batched sampling over a key-value cache: token ids with their log-probabilities.

Invariant: a row's tokens depend on the model, its prompt and its own uniform numbers, never on the rows
beside it. Low bits of a log-probability may move with the batch (the order of a padded sum), tokens do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache, PreTrainedModel


@dataclass(frozen=True, slots=True)
class Row:
    """One completion to sample."""

    prompt: int
    """Index of its prompt in the batch."""
    temperature: float
    """0 takes the likeliest token."""
    noise: NDArray[np.float64]
    """One uniform number for each token that may be sampled; its length is the token limit."""


class Drawn(NamedTuple):
    """What was sampled for a row."""

    ids: list[int]
    logprobs: list[float]


class _Prefill(NamedTuple):
    logits: Tensor
    """[P, V] at each prompt's last token."""
    cache: Cache
    mask: Tensor | None
    """[P, L], none where all prompts are equally long."""
    lengths: Tensor
    """[P]"""


def decode(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], rows: Sequence[Row], stops: frozenset[int]
) -> list[Drawn]:
    """Sample every row after its prompt; each distinct prompt passes through the model once.

    A row ends after its first token of `stops`, which is kept, or at its token limit. Log-probabilities are
    natural and of the distribution that was sampled, so at temperature 0 they are 0.
    """
    import torch

    with torch.inference_mode():
        start = _prefill(model, prompts)
        return _Decoder(model, start, rows, stops).run()


def _prefill(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> _Prefill:
    import torch

    lengths = torch.tensor([len(prompt) for prompt in prompts])
    width = int(lengths.max())
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
    positions = torch.arange(width) - (width - lengths)[:, None]
    mask = (positions >= 0).long().to(model.device) if int(lengths.min()) < width else None
    out = model(
        input_ids=ids.to(model.device),
        attention_mask=mask,
        position_ids=positions.clamp(min=0).to(model.device),
        use_cache=True,
        logits_to_keep=1,
    )
    return _Prefill(out.logits[:, -1], out.past_key_values, mask, lengths.to(model.device))


def pick(logits: Tensor, temperature: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return a token for each row and its log-probability, by inversion of the cumulative distribution.

    Args:
        logits: [B, V]. temperature: [B], 0 for the likeliest token. noise: float64 [B] in [0, 1).

    One uniform number decides a token, and the sum runs in float64: rounding in the logits then changes a
    token with a probability of the order of the rounding itself.
    """
    import torch

    greedy = temperature == 0
    scaled = logits.float() / torch.where(greedy, 1.0, temperature)[:, None]
    logprobs = torch.log_softmax(scaled, dim=-1)
    cumulative = logprobs.double().exp().cumsum(dim=-1)
    drawn = torch.searchsorted(cumulative, (noise * cumulative[:, -1])[:, None], right=True)[:, 0]
    tokens = torch.where(greedy, logits.argmax(dim=-1), drawn.clamp(max=logits.shape[-1] - 1))
    chosen = logprobs.gather(1, tokens[:, None])[:, 0]
    return tokens, torch.where(greedy, 0.0, chosen)


class _Decoder:
    """The token loop. `places` are the rows that the cache holds, in order; `open` are those that go on."""

    def __init__(self, model: PreTrainedModel, start: _Prefill, rows: Sequence[Row], stops: frozenset[int]) -> None:
        import torch

        self.model, self.stops, device = model, stops, model.device
        self.drawn = [Drawn([], []) for _ in rows]
        self.limits = [len(row.noise) for row in rows]
        self.noise = torch.from_numpy(_stack([row.noise for row in rows])).to(device)
        self.temperature = torch.tensor([row.temperature for row in rows], device=device)
        self.open = set(range(len(rows)))
        self.places = _at_least_two(list(range(len(rows))))
        chosen = torch.tensor([rows[i].prompt for i in self.places], device=device)
        self.cache, self.logits, self.position = start.cache, start.logits[chosen], start.lengths[chosen]
        self.mask = None if start.mask is None else start.mask[chosen]
        self.cache.batch_select_indices(chosen)

    def run(self) -> list[Drawn]:
        """Sample until every row has ended."""
        import torch

        step = 0
        while True:
            rows = torch.tensor(self.places, device=self.model.device)
            tokens, logprobs = pick(self.logits, self.temperature[rows], self.noise[rows, step])
            self._record(tokens.tolist(), logprobs.tolist())
            if not self.open:
                return self.drawn
            step += 1
            self._forward(self._compact(tokens))

    def _record(self, tokens: list[int], logprobs: list[float]) -> None:
        fresh = dict(zip(self.places, zip(tokens, logprobs, strict=True), strict=True))
        for row in tuple(self.open):
            token, logprob = fresh[row]
            drawn = self.drawn[row]
            drawn.ids.append(token)
            drawn.logprobs.append(logprob)
            if token in self.stops or len(drawn.ids) == self.limits[row]:
                self.open.remove(row)

    def _compact(self, tokens: Tensor) -> Tensor:
        """Drop the ended rows once they are a quarter of the cache; a copy for each would cost more."""
        import torch

        if len(self.open) > 0.75 * len(self.places):
            return tokens
        kept = _at_least_two([place for place, row in enumerate(self.places) if row in self.open])
        if len(kept) >= len(self.places):
            return tokens
        self.places = [self.places[place] for place in kept]
        index = torch.tensor(kept, device=self.model.device)
        self.cache.batch_select_indices(index)
        self.position = self.position[index]
        self.mask = None if self.mask is None else self.mask[index]
        return tokens[index]

    def _forward(self, tokens: Tensor) -> None:
        import torch

        if self.mask is not None:
            self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        out = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache, self.logits = out.past_key_values, out.logits[:, -1]
        self.position = self.position + 1


def _stack(noise: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    table = np.zeros((len(noise), max(len(row) for row in noise)))
    for i, row in enumerate(noise):
        table[i, : len(row)] = row
    return table


def _at_least_two(rows: list[int]) -> list[int]:
    """Return the rows, a single one twice: one row takes other matrix kernels and so other low bits."""
    return rows * 2 if len(rows) == 1 else rows
