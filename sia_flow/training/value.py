"""The critic of PPO: a linear head on the policy's last hidden state.

Invariant: it reads detached states, so that it never moves the policy; it starts at zero, without a random
number; it is state of a pull, never part of an adapter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sia_flow.errors import TrainingError
from sia_flow.training.batch import Chunk
from sia_flow.training.credit import Target
from sia_flow.training.types import AdapterModel


def value_head(model: AdapterModel, device: torch.device) -> nn.Linear:
    """Return a head of zeros that fits the model's hidden states.

    Raises TrainingError if the model does not say how wide they are.
    """
    config = getattr(model, "config", None)
    width = getattr(config, "hidden_size", None)
    if not isinstance(width, int):
        raise TrainingError(
            "ppo needs the policy's hidden states for its critic, and the model has no config.hidden_size; "
            "use a Hugging Face causal language model, or training.algorithm: grpo"
        )
    head = nn.Linear(width, 1, device="meta", dtype=torch.float32).to_empty(device=device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Return half the larger of two squared errors, each [N]: of the value, and of the value held near the old one.

    A value that left old +- clip towards its return has no gradient (PPO, arXiv 1707.06347, as in its code).
    """
    held = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (held - returns).square())


class Regression:
    """Adds the head's gradient chunk by chunk; the chunks together are the mean over N tokens."""

    def __init__(self, head: nn.Linear, target: Target, source: Tensor) -> None:
        self.head = head
        self.target = target
        self.source = source
        """[N] where each token stands among those of the distinct calls: a call's tokens may count several times."""
        self.total = 0.0

    def __call__(self, chunk: Chunk, states: Tensor) -> None:
        """Take the states [n, H] of a chunk's tokens."""
        inside = (self.source >= chunk.start) & (self.source < chunk.stop)
        values = self.head(states).squeeze(1)[self.source[inside] - chunk.start]
        errors = value_loss(values, self.target.values[inside], self.target.returns[inside], self.target.clip)
        loss = errors.sum() / len(self.source)
        torch.autograd.backward(loss)
        self.total += loss.item()
