"""Our own engine: plain back-propagation through a PEFT model, and the critic of PPO.

Invariant: equal calls give equal bits; the adapter's gradient never contains the critic's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sia_flow.training.admission import Settings, adapter_parameters
from sia_flow.training.batch import Batch
from sia_flow.training.credit import Credited
from sia_flow.training.forward import Measured, backward, measure
from sia_flow.training.losses import LOSSES, clip_fraction
from sia_flow.training.tuned import Tuned
from sia_flow.training.types import TrainablePolicy
from sia_flow.training.value import Regression, value_head


class PeftBackend:
    """Implements `TrainingBackend` for all algorithms of the menu."""

    def __init__(self, policy: TrainablePolicy, settings: Settings) -> None:
        self._policy = policy
        self._calls = settings.micro_batch
        self._adapter = Tuned("adapter", adapter_parameters(policy))
        self._rate = 0.0
        self._head: torch.nn.Linear | None = None
        self._critic: Tuned | None = None
        if settings.algorithm.critic is not None:
            self._head = value_head(policy.model, self.device)
            self._rate = settings.algorithm.critic.stride / self._head.in_features
            named = {f"value_head.{name}": parameter for name, parameter in self._head.named_parameters()}
            self._critic = Tuned("critic", named)

    @property
    def device(self) -> torch.device:
        """Return where batches have to be."""
        return self._adapter.device

    def measure(self, batch: Batch) -> Measured:
        """Return the batch under the policy, the base and the critic, without gradients."""
        return measure(self._policy.model, batch, self._calls, self._head)

    def forward_backward(self, credited: Credited, loss: str) -> Mapping[str, float]:
        """Add the gradients of the adapter's loss and, where there is a target, of the critic's."""
        stream, batch = credited.stream, credited.batch
        critic = None
        if self._head is not None and credited.target is not None:
            critic = Regression(self._head, credited.target, batch.token_source)
        found, logprobs = backward(self._policy.model, batch, self._calls, lambda lp: LOSSES[loss](lp, stream), critic)
        clipped = clip_fraction(logprobs, stream.old, stream.advantage, stream.clip) if loss == "clipped" else 0.0
        figures = {"loss": found, "clip_fraction": float(clipped)}
        return figures if critic is None else {**figures, "value_loss": critic.total}

    def optim_step(self, learning_rate: float, grad_norm: float) -> float:
        """Step the adapter, and the critic at its own rate, each clipped by itself; return the adapter's norm."""
        norm = self._adapter.step(learning_rate, grad_norm)
        if self._critic is not None and not math.isfinite(self._critic.step(self._rate, grad_norm)):
            return math.nan
        return norm

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as PEFT reads it; the critic stays behind."""
        self._policy.save_adapter(folder)

    def snapshot(self) -> dict[str, Tensor]:
        """Return adapter, critic and their moments by name."""
        return self._adapter.snapshot() | (self._critic.snapshot() if self._critic else {})

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a snapshot back, bit by bit. Raises TrainingError if it is of another shape."""
        self._adapter.restore(tensors)
        if self._critic is not None:
            self._critic.restore(tensors)
