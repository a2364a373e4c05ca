"""What takes a pull's optimizer steps, behind Tinker's verbs.

Invariant: an engine executes credited batches and knows nothing of tasks, rewards or groups; it refuses what
it cannot do before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sia_flow.training.admission import Settings
from sia_flow.training.batch import Batch
from sia_flow.training.credit import Credited
from sia_flow.training.forward import Measured
from sia_flow.training.types import TrainablePolicy


class TrainingBackend(Protocol):
    """An adapter with its optimizer, and a critic where the algorithm has one."""

    @property
    def device(self) -> torch.device:
        """Where batches have to be."""

    def measure(self, batch: Batch) -> Measured:
        """Return the batch under the policy and the base, without gradients."""

    def forward_backward(self, credited: Credited, loss: str) -> Mapping[str, float]:
        """Add the gradient of a loss of `losses.LOSSES`; return `loss`, `clip_fraction` and the critic's figures.

        Raises TrainingError for a batch that the engine cannot train on.
        """

    def optim_step(self, learning_rate: float, grad_norm: float) -> float:
        """Clip the gradient that has gathered to `grad_norm`, step, drop it; return its norm before clipping.

        A norm that is not finite says that the numbers broke down: go back to a snapshot.
        """

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as PEFT reads it."""

    def snapshot(self) -> dict[str, Tensor]:
        """Return all that decides the next step, by name."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a snapshot back, bit by bit. Raises TrainingError if it is of another shape."""


def open_backend(policy: TrainablePolicy, settings: Settings) -> TrainingBackend:
    """Return the engine that the settings name. Raises TrainingError for what it cannot train."""
    if settings.engine == "trl":
        from sia_flow.training.backends.trl import TrlBackend

        return TrlBackend(policy, settings)
    if settings.engine == "fsdp":
        from sia_flow.training.backends.sharded import ShardedBackend

        return ShardedBackend(policy, settings)
    from sia_flow.training.backends.peft import PeftBackend

    return PeftBackend(policy, settings)
