"""TRL as the engine: its losses and its back-propagation on samples that are credited already.

Invariant: TRL never generates, never rewards and never tokenises here; the optimizer and all state are those of
our own engine, so that a checkpoint of one engine has the layout of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sia_flow.errors import TrainingError
from sia_flow.training.admission import Settings, adapter_parameters
from sia_flow.training.backends.layout import one_temperature
from sia_flow.training.batch import Batch
from sia_flow.training.credit import Credited
from sia_flow.training.forward import Measured, measure
from sia_flow.training.tuned import Tuned
from sia_flow.training.types import TrainablePolicy

if TYPE_CHECKING:
    from sia_flow.training.backends.trl_losses import TrlLoss


class TrlBackend:
    """Implements `TrainingBackend` for the algorithms without a critic."""

    def __init__(self, policy: TrainablePolicy, settings: Settings) -> None:
        if settings.algorithm.critic is not None:
            raise TrainingError(
                f"training.engine trl has no critic, which {settings.algorithm.name} needs: TRL dropped PPO in 1.13; "
                "set training.engine: peft or another algorithm"
            )
        self._policy = policy
        self._settings = settings
        self._adapter = Tuned("adapter", adapter_parameters(policy))
        self._loss: TrlLoss | None = None
        self._temperature = 1.0

    @property
    def device(self) -> torch.device:
        """Return where batches have to be."""
        return self._adapter.device

    def measure(self, batch: Batch) -> Measured:
        """Return the batch under the policy and the base, without gradients."""
        return measure(self._policy.model, batch, self._settings.micro_batch)

    def forward_backward(self, credited: Credited, loss: str) -> Mapping[str, float]:
        """Add the gradient of TRL's form of a loss; return `loss` and `clip_fraction`.

        Raises TrainingError for a batch that TRL's trainer cannot train on: of several temperatures, of one
        other than 1 where the trainer knows none, of pairs of episodes with several calls.
        """
        from sia_flow.training.backends.trl_losses import LOSSES

        temperature = one_temperature(credited.batch)
        if self._loss is None:
            self._temperature = temperature
            self._loss = LOSSES[loss](self._policy.model, self._adapter.optimizer, temperature, self._settings)
        if temperature != self._temperature:
            raise TrainingError(
                f"training.engine trl began this pull at temperature {self._temperature:g} and cannot go on at "
                f"{temperature:g}; let the scaffold sample at one, or set training.engine: peft"
            )
        model: Any = self._policy.model
        training = model.training
        figures = self._loss.backward(credited, self._settings.micro_batch)
        model.train(training)
        return figures

    def optim_step(self, learning_rate: float, grad_norm: float) -> float:
        """Step the adapter; return the norm of the gradient before clipping."""
        return self._adapter.step(learning_rate, grad_norm)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as PEFT reads it."""
        self._policy.save_adapter(folder)

    def snapshot(self) -> dict[str, Tensor]:
        """Return the adapter and its moments by name."""
        return self._adapter.snapshot()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a snapshot back, bit by bit. Raises TrainingError if it is of another shape."""
        self._adapter.restore(tensors)
