"""Supervised training of the tiny base: next-token loss on completions, batches of rows of like length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of its completion, the end of sequence included."""

IGNORED = -100
"""Label that the loss leaves out."""
WINDOW = 16
"""Batches within which rows are sorted by length: little padding, and still a new mix every epoch."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """AdamW with a short linear rise and a linear fall to a twentieth of the peak."""

    steps: int = 500
    batch: int = 64
    learning_rate: float = 6e-3
    rise: int = 20
    weight_decay: float = 0.01
    grad_norm: float = 1.0
    common: float = 0.4
    """Largest share of an epoch that goes to one prompt. What is learnt for a prompt does not depend on its
    share, and a prompt that most rows have would leave little time for those that show something to copy."""

    def factor(self, step: int) -> float:
        """Return the learning rate of a step as a share of the peak."""
        return min(1.0, (step + 1) / self.rise) * max(0.05, 1.0 - step / self.steps)


def fit(
    model: PreTrainedModel,
    rows: Sequence[Row],
    schedule: Schedule,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train `model` in place; deterministic under fixed threads."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        betas=(0.9, 0.95),
        fused=True,
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.factor)
    model.train()
    for step, batch in zip(range(schedule.steps), batches(rows, schedule.batch, seed, schedule.common), strict=False):
        ids, labels = tensors(batch)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.grad_norm)
        optimizer.step()
        rate.step()
        if progress is not None:
            progress(step + 1, schedule.steps, loss.item())
    model.eval()


def batches(rows: Sequence[Row], size: int, seed: int, common: float = 1.0) -> Iterator[list[Row]]:
    """Yield batches for ever: shuffled, sorted by length within windows, the windows' batches shuffled."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(_epoch(rows, common, rng))
        for start in range(0, len(order), size * WINDOW):
            window = sorted(order[start : start + size * WINDOW], key=lambda i: _length(rows[i]))
            parts = [window[k : k + size] for k in range(0, len(window), size)]
            for k in rng.permutation(len(parts)):
                yield [rows[i] for i in parts[k]]


def _epoch(rows: Sequence[Row], common: float, rng: np.random.Generator) -> list[int]:
    """Return an epoch's rows: all, but of the commonest prompt's a new draw, up to its share."""
    prompts = [tuple(prompt) for prompt, _ in rows]
    top, count = Counter(prompts).most_common(1)[0]
    rest = [i for i, prompt in enumerate(prompts) if prompt != top]
    limit = round(len(rest) * common / (1 - common)) if common < 1 and rest else count
    drawn = rng.permutation([i for i, prompt in enumerate(prompts) if prompt == top])
    return [*rest, *drawn[:limit].tolist()]


def _length(row: Row) -> int:
    return len(row[0]) + len(row[1])


def tensors(batch: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Return right-padded ids and labels, int64 [B, L]; prompt and padding are left out of the loss."""
    import torch

    width = max(map(_length, batch))
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    labels = torch.full((len(batch), width), IGNORED)
    for i, (prompt, completion) in enumerate(batch):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        labels[i, len(prompt) : end] = torch.tensor(completion)
    return ids, labels
