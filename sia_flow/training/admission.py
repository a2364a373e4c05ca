"""What a pull refuses before it costs anything.

Invariant: a plan that passes can be run: every setting is a usable number, only adapter tensors would move,
and all episodes come from the weights that are trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sia_flow.errors import TrainingError
from sia_flow.training.algorithms import Algorithm, algorithm_named
from sia_flow.training.types import Engine, Episode, PullConfig, Schedule, TrainablePolicy

FINAL_RATE = 0.1
"""Share of the learning rate that the last iteration of a linear schedule has."""

_POSITIVE = ("iterations", "learning_rate", "epochs", "clip", "grad_norm", "max_kl", "micro_batch")


@dataclass(frozen=True, slots=True)
class Settings:
    """A plan with nothing left open."""

    algorithm: Algorithm
    engine: Engine
    iterations: int
    learning_rate: float
    schedule: Schedule
    kl: float
    epochs: int
    clip: float
    grad_norm: float
    max_kl: float
    backtracks: int
    seed: int
    micro_batch: int

    def rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration: constant, or falling in a line to a `FINAL_RATE` of it."""
        if self.schedule == "constant" or self.iterations == 1:
            return self.learning_rate
        return self.learning_rate * (1.0 - (1.0 - FINAL_RATE) * iteration / (self.iterations - 1))


def settle(plan: PullConfig) -> Settings:
    """Return the plan with the algorithm's own values where it has none.

    Raises TrainingError for an algorithm that is not on the menu and for a setting out of range.
    """
    algorithm = algorithm_named(plan.algorithm)
    if algorithm.estimator == "grpo" and plan.scale != "group":
        algorithm = replace(algorithm, estimator=f"grpo_{plan.scale}")
    settings = Settings(
        algorithm=algorithm,
        engine=plan.engine,
        iterations=plan.iterations,
        learning_rate=algorithm.learning_rate if plan.learning_rate is None else plan.learning_rate,
        schedule=plan.schedule,
        kl=algorithm.kl if plan.kl is None else plan.kl,
        epochs=algorithm.epochs if plan.epochs is None else plan.epochs,
        clip=plan.clip,
        grad_norm=plan.grad_norm,
        max_kl=plan.max_kl,
        backtracks=plan.backtracks,
        seed=plan.seed,
        micro_batch=plan.micro_batch,
    )
    for name in _POSITIVE:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value > 0):
            raise TrainingError(f"training.{name} is {value}; it must be a number above 0")
    for name in ("kl", "backtracks"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise TrainingError(f"training.{name} is {value}; it must be 0 or more")
    return settings


def adapter_parameters(policy: TrainablePolicy) -> dict[str, torch.nn.Parameter]:
    """Return the trainable tensors by name.

    Raises TrainingError if there is none, and if a base weight is among them.
    """
    found = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    if not found:
        raise TrainingError("the policy has no trainable adapter; load it with a LoRA and trainable=True")
    foreign = [name for name in found if "lora_" not in name]
    if foreign:
        raise TrainingError(f"{foreign[0]} is a base weight and would be trained; freeze all but the adapter")
    return dict(sorted(found.items()))


def check_sampler(episodes: Sequence[Episode], version: str) -> None:
    """Raise TrainingError if any episode was sampled by other weights than those that are trained."""
    other = next((turn.policy for e in episodes for turn in e.turns if turn.policy != version), None)
    if other is not None:
        raise TrainingError(f"an episode was sampled by policy {other}, the trainer holds {version}; collect on policy")
