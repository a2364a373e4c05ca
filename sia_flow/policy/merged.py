"""A copy of the base with the adapter added into its weights, to sample from at the base's speed.

Invariant: the base's own weights are never written; each merge starts from them, so that no drift adds up.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel


class MergedCopy:
    """The plain twin of a model, brought up to date with the adapter on demand."""

    def __init__(self, base: PreTrainedModel) -> None:
        self.model = copy.deepcopy(base)
        self._version: str | None = None

    def refresh(self, wrapped: PeftModel, version: str) -> PreTrainedModel:
        """Return the twin with the adapter of `wrapped` merged, unless `version` is what it holds already."""
        import torch
        from peft.tuners.lora import LoraLayer

        if version == self._version:
            return self.model
        with torch.no_grad():
            for name, layer in wrapped.get_base_model().named_modules():
                if isinstance(layer, LoraLayer):
                    self._merge(name, layer)
        self._version = version
        return self.model

    def forget(self) -> None:
        """Make the next `refresh` merge again."""
        self._version = None

    def _merge(self, name: str, layer: LoraLayer) -> None:
        """Write base + delta. Wrappers of several parameters of a module are nested, hence `base_layer`."""
        module = self.model.get_submodule(name.replace(".base_layer", ""))
        parameter = getattr(layer, "parameter_name", "weight")
        base = getattr(layer.get_base_layer(), parameter)
        getattr(module, parameter).copy_(base + layer.get_delta_weight("default"))
