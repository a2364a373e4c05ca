"""The base split over several processes by FSDP2, the adapter whole in each: for models that fit on no one device.

Invariant: every process takes the same steps on the same gradient, which is that of one process up to the order of
its sum; process 0 leads, the others follow it verb by verb.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sia_flow.errors import TrainingError
from sia_flow.training.admission import Settings
from sia_flow.training.backends.peft import PeftBackend
from sia_flow.training.backends.processes import device, leads, tell
from sia_flow.training.batch import Batch, Chunk
from sia_flow.training.credit import Credited
from sia_flow.training.forward import Measured, as_measured, logprobs, measure_chunk
from sia_flow.training.losses import LOSSES, clip_fraction
from sia_flow.training.types import TrainablePolicy

TOKENS = 16_384
"""Tokens that a process takes through the model at once, at most, unless a single row is longer."""


class ShardedBackend(PeftBackend):
    """Implements `TrainingBackend` for the algorithms without a critic."""

    def __init__(self, policy: TrainablePolicy, settings: Settings) -> None:
        """Split the policy's base in place. Raises TrainingError without several processes, and for a critic."""
        if settings.algorithm.critic is not None:
            raise TrainingError(
                f"training.engine fsdp has no critic, which {settings.algorithm.name} needs; choose another algorithm"
            )
        if not dist.is_initialized() or dist.get_world_size() < 2:
            raise TrainingError(
                "training.engine fsdp needs several processes: start it by `accelerate launch --config_file "
                "flows/accelerate/fsdp2.yaml flows/sharded.py apply SPEC` (docs/large-models.md)"
            )
        if leads():
            tell("open", *description(policy), settings)
        split(policy.model)
        super().__init__(policy, settings)

    def measure(self, batch: Batch) -> Measured:
        """Return the batch under the policy and the base, without gradients."""
        if leads():
            tell("measure", batch)
        table = torch.zeros((4, int(batch.sampled.sum())), device=self.device)
        with torch.no_grad():
            for chunk, counts in self._share(batch):
                found = measure_chunk(self._policy.model, chunk, None)
                if counts:
                    table[:, chunk.start : chunk.stop] = found
        dist.all_reduce(table)
        return as_measured(table, batch)

    def forward_backward(self, credited: Credited, loss: str) -> Mapping[str, float]:
        """Add the gradient of a loss: its slope in the log-probabilities first, then each process its chunks."""
        if leads():
            tell("forward_backward", credited, loss)
        batch, stream, source = credited.batch, credited.stream, credited.batch.token_source
        leaf = torch.zeros(int(batch.sampled.sum()), device=self.device)
        with torch.no_grad():
            for chunk, counts in self._share(batch):
                found = logprobs(self._policy.model, chunk)
                if counts:
                    leaf[chunk.start : chunk.stop] = found
        dist.all_reduce(leaf)
        leaf.requires_grad_()
        total = LOSSES[loss](leaf[source], stream)
        (slope,) = torch.autograd.grad(total, leaf)
        for chunk, counts in self._share(batch):
            part = slope[chunk.start : chunk.stop]
            torch.autograd.backward(logprobs(self._policy.model, chunk), part if counts else torch.zeros_like(part))
        for parameter in self._adapter.parameters.values():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
        old = leaf.detach()[source]
        clipped = clip_fraction(old, stream.old, stream.advantage, stream.clip) if loss == "clipped" else 0.0
        return {"loss": total.item(), "clip_fraction": float(clipped)}

    def optim_step(self, learning_rate: float, grad_norm: float) -> float:
        """Take the same step in every process; return the norm of the gradient before clipping."""
        if leads():
            tell("optim_step", learning_rate, grad_norm)
        return super().optim_step(learning_rate, grad_norm)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a snapshot back in every process. Raises TrainingError if it is of another shape."""
        if leads():
            tell("restore", dict(tensors))
        super().restore(tensors)

    def _share(self, batch: Batch) -> Iterator[tuple[Chunk, bool]]:
        """Yield this process's chunks, and whether they count: all go through the model equally often."""
        rows = max(1, min(self._calls, TOKENS // batch.tokens.shape[1]))
        chunks = list(batch.chunks(rows))
        world, rank = dist.get_world_size(), dist.get_rank()
        for start in range(0, len(chunks), world):
            mine = start + rank
            yield chunks[min(mine, len(chunks) - 1)], mine < len(chunks)


def split(model: Any) -> None:
    """Shard a PEFT model's base over all processes, a decoder layer at a time; its adapter stays whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = device()
    mesh = init_device_mesh(place.type, (dist.get_world_size(),))
    adapter = {parameter for parameter in model.parameters() if parameter.requires_grad}
    with torch.no_grad():
        for parameter in adapter:
            parameter.data = parameter.data.to(place)
    base = model.get_base_model()
    base.config.use_cache = False
    base.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    for layer in base.model.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=adapter)
    fully_shard(base, mesh=mesh, ignored_params=adapter)
    # Checkpointing is off in evaluation mode; nothing in the model draws random numbers.
    model.train()


def description(policy: TrainablePolicy) -> tuple[str, str, dict[str, Any], dict[str, Tensor]]:
    """Return what another process needs for the same policy: base, its type, LoRA settings, adapter tensors."""
    model: Any = policy.model
    config = model.peft_config["default"]
    targets = tuple(t for t, on in (("attention", config.target_modules), ("experts", config.target_parameters)) if on)
    lora = {"rank": config.r, "alpha": config.lora_alpha, "targets": targets}
    tensors = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    dtype = "float32" if model.dtype == torch.float32 else "auto"
    return str(model.config.name_or_path), dtype, lora, tensors
