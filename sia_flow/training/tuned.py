"""Named tensors and the AdamW that moves them.

Invariant: `snapshot` and `restore` carry all that decides the next step, bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sia_flow.errors import TrainingError

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Tuned:
    """What a pull trains: the adapter, or a critic.

    Attributes:
        parameters: the tensors by name; names are unique among all that is tuned together.
        optimizer: AdamW over them, without weight decay.
    """

    def __init__(self, kind: str, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.kind = kind
        self.parameters = dict(parameters)
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), betas=(0.9, 0.95), weight_decay=0.0, foreach=False
        )
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def device(self) -> torch.device:
        """Return where the tensors are."""
        return next(iter(self.parameters.values())).device

    def step(self, learning_rate: float, grad_norm: float) -> float:
        """Take one step on the gradient that has gathered, drop it, and return its norm before clipping.

        The norm is NaN or infinite if the numbers broke down, in the gradient (then nothing moved) or in the
        tensors.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), grad_norm))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        whole = all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters.values())
        return norm if whole else math.nan

    def snapshot(self) -> dict[str, Tensor]:
        """Return the tensors under KIND/NAME and the moments under exp_avg/NAME and so on; views, not copies."""
        tensors = {f"{self.kind}/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a snapshot back and drop gradients. Raises TrainingError if its names or shapes are others."""
        self.optimizer.zero_grad(set_to_none=True)
        for name, parameter in self.parameters.items():
            stored = tensors.get(f"{self.kind}/{name}")
            if stored is None or stored.shape != parameter.shape:
                raise TrainingError(
                    f"the checkpoint does not fit the {self.kind}: {name} is missing or of another shape"
                )
            parameter.copy_(stored)
            moments = {key: tensors.get(f"{key}/{name}") for key in _MOMENTS}
            self.optimizer.state.pop(parameter, None)
            if moments["step"] is not None:
                self.optimizer.state[parameter] = {
                    key: value.clone() if key == "step" else value.clone().to(parameter.device)
                    for key, value in moments.items()
                    if value is not None
                }
