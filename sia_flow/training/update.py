"""Some optimizer steps on one credited batch.

Invariant: after a step every adapter tensor is finite, or the caller is told that the numbers broke down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sia_flow.training.admission import Settings
from sia_flow.training.credit import Credited
from sia_flow.training.forward import backward
from sia_flow.training.losses import LOSSES, clip_fraction
from sia_flow.training.types import AdapterModel

EXPLODED = 1e6
"""A loss beyond this is a break-down: credit is of order 1 and ratios are clipped or near 1."""


def update(
    model: AdapterModel, optimizer: torch.optim.Optimizer, credited: Credited, settings: Settings
) -> Mapping[str, float] | None:
    """Take `epochs` steps; return mean loss, gradient norm and clip fraction, None after a break-down."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    objective = LOSSES[settings.algorithm.loss]
    stream = credited.stream
    losses, norms, clipped = [], [], []

    def loss_of(logprobs: Tensor) -> Tensor:
        return objective(logprobs, stream)

    for _ in range(settings.epochs):
        optimizer.zero_grad(set_to_none=True)
        loss, logprobs = backward(model, credited.batch, settings.micro_batch, loss_of)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.grad_norm))
        if not math.isfinite(norm) or not abs(loss) < EXPLODED:
            return None
        optimizer.step()
        losses.append(loss)
        norms.append(norm)
        clipped.append(_clipped(logprobs, credited) if settings.algorithm.loss == "clipped" else 0.0)
    optimizer.zero_grad(set_to_none=True)
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        return None
    return {"loss": _mean(losses), "grad_norm": _mean(norms), "clip_fraction": _mean(clipped)}


def _clipped(logprobs: Tensor, credited: Credited) -> float:
    stream = credited.stream
    return float(clip_fraction(logprobs, stream.old, stream.advantage, stream.clip))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
