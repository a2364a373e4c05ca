"""What the trainer takes and gives: episodes in, one adapter out.

Invariant: everything here is plain data; two equal `PullConfig`s with equal episodes give equal adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from sia_flow.lineage.records import Turn

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

Schedule = Literal["constant", "linear"]
Engine = Literal["peft", "trl", "fsdp"]


@dataclass(frozen=True, slots=True)
class Episode:
    """One verified rollout: its model calls and the one reward that all their sampled tokens share."""

    group: str
    """Rollouts of one group answer the same question; advantages compare them."""
    turns: tuple[Turn, ...]
    reward: float
    valid: bool
    turn_rewards: tuple[float, ...] = ()
    """How the reward came about: one share for each turn, `reward` in all. Empty: all of it at the end. Only a critic
    tells the difference."""


@dataclass(frozen=True, slots=True)
class PullConfig:
    """One pull of the weight lever. A field that is None takes the algorithm's own value."""

    algorithm: str = "grpo"
    engine: Engine = "peft"
    """What takes the optimizer steps: our own loop, in one process or several, or TRL's trainers."""
    iterations: int = 40
    learning_rate: float | None = None
    schedule: Schedule = "constant"
    kl: float | None = None
    """Coefficient of the KL penalty to the base; without effect for algorithms that have no such term."""
    epochs: int | None = None
    """Optimizer steps on each collected batch."""
    scale: Literal["group", "batch", "none"] = "group"
    """What GRPO divides its centred rewards by: the deviation of the group (as published), of the batch, or nothing."""
    clip: float = 0.2
    """Half-width of the trust interval of the probability ratio."""
    grad_norm: float = 1.0
    max_kl: float = 20.0
    """Nats per model call to the base; beyond it the pull stops and goes back to its best adapter."""
    backtracks: int = 0
    """Times that the pull, where it would stop, goes back to its best adapter and on at half the learning rate."""
    seed: int = 0
    micro_batch: int = 512
    """Distinct model calls in one forward pass; bounds memory, does not change the gradient."""


class ModelOutput(Protocol):
    """What a causal language model returns."""

    @property
    def logits(self) -> Tensor:
        """[B, T, V]"""

    @property
    def hidden_states(self) -> Sequence[Tensor]:
        """[B, T, H] each, from the embedding to what the head reads."""


class AdapterModel(Protocol):
    """The part of a PEFT model that training needs."""

    def __call__(self, *, input_ids: Tensor, use_cache: bool, output_hidden_states: bool) -> ModelOutput:
        """Return the logits of right-padded rows [B, T], and the hidden states where asked for."""

    def disable_adapter(self) -> AbstractContextManager[None]:
        """Compute with the bare base inside the context."""

    def named_parameters(self) -> Iterable[tuple[str, Parameter]]:
        """Return (name, parameter) pairs; only the adapter's require gradients."""


class TrainablePolicy(Protocol):
    """A policy whose adapter can be trained in place."""

    @property
    def model(self) -> AdapterModel:
        """The PEFT model: base frozen, adapter trainable, dropout off."""

    @property
    def version(self) -> str:
        """Name of the exact weights; it changes after `refresh`."""

    def refresh(self) -> None:
        """Drop all that was derived from the adapter's tensors: they have changed."""

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as PEFT reads it."""


Collect = Callable[[int, int], Sequence[Episode]]
"""`collect(iteration, seed)`: roll the frozen scaffold out on the current policy and verify."""

OnStep = Callable[[int, Mapping[str, float]], None]
"""`on_step(iteration, metrics)`: told of each finished iteration, also of those that a resume skips."""

Status = Literal["ok", "stopped", "skipped", "nan"]


@dataclass(frozen=True, slots=True)
class WeightUpdate:
    """How a pull ended."""

    adapter: Path
    steps: tuple[Mapping[str, float], ...]
    """Metrics by iteration, measured on the policy that sampled it."""
    status: Status
    """`ok`; `stopped` by a guard; `skipped`: no batch had a gradient; `nan`: the numbers broke down."""
    note: str
    updates: int
    """Optimizer steps that the kept adapter contains."""
