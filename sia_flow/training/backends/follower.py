"""A process that follows the leader of a sharded engine: it opens what the leader opens and does what it does.

Invariant: an error of the user's making is raised in the leader alone; any other ends this process, and the launcher
ends the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sia_flow.errors import TrainingError
from sia_flow.training.admission import Settings
from sia_flow.training.backends.processes import hear
from sia_flow.training.backends.sharded import ShardedBackend
from sia_flow.training.determinism import deterministic
from sia_flow.training.types import TrainablePolicy

Load = Callable[[str, str, Mapping[str, Any]], TrainablePolicy]
"""`load(base, dtype, lora)`: the policy of a base folder with a fresh adapter."""


def follow(load: Load) -> None:
    """Do what the leader says until it says that it is done."""
    backend: ShardedBackend | None = None
    with deterministic():
        while True:
            verb, *arguments = hear()
            if verb == "end":
                return
            try:
                if verb == "open":
                    # The last pull's shards go before the next one's come.
                    backend = None
                    backend = _open(load, *arguments)
                else:
                    getattr(backend, verb)(*arguments)
            except TrainingError:
                continue


def _open(
    load: Load, base: str, dtype: str, lora: Mapping[str, Any], tensors: Mapping[str, Tensor], settings: Settings
) -> ShardedBackend:
    policy = load(base, dtype, lora)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if name in tensors:
                parameter.copy_(tensors[name])
    return ShardedBackend(policy, settings)
