"""Some optimizer steps on one credited batch.

Invariant: after them every trained tensor is finite, or the caller is told that the numbers broke down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sia_flow.training.admission import Settings
from sia_flow.training.backend import TrainingBackend
from sia_flow.training.credit import Credited

EXPLODED = 1e6
"""A loss beyond this is a break-down: credit is of order 1 and ratios are clipped or near 1."""


def update(
    backend: TrainingBackend, credited: Credited, settings: Settings, learning_rate: float
) -> Mapping[str, float] | None:
    """Take `epochs` steps; return the means of what they told and of the gradient norm, None after a break-down."""
    told: list[Mapping[str, float]] = []
    for _ in range(settings.epochs):
        figures = backend.forward_backward(credited, settings.algorithm.loss)
        if not abs(figures["loss"]) < EXPLODED:
            return None
        norm = backend.optim_step(learning_rate, settings.grad_norm)
        if not math.isfinite(norm):
            return None
        told.append({**figures, "grad_norm": norm})
    return {name: sum(figures[name] for figures in told) / len(told) for name in told[0]}
