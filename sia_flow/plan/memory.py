"""Bytes that a model takes: weights, adapter, activations, key-value cache.

The terms of `activations` are what autograd keeps of gpt-oss's layers in transformers 5.23 with eager attention,
found by counting the tensors that it saved while one width at a time was changed; a test counts them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sia_flow.plan.shape import Shape, Target

MXFP4 = 17 / 32
"""Bytes a weight: 4 bits, and 8 bits of scale for each block of 32 (OCP Microscaling Formats, version 1.0)."""
ADAPTER = 16
"""Bytes for each parameter of an adapter in training: float32 value and gradient, two moments of AdamW."""
_KEPT = {4: (16, 12), 2: (10, 20)}
"""Bytes kept of each query unit and each hidden unit of a token, by the size of the base's numbers; in 16 bits the
norms and the adapter's inputs are float32 all the same."""
_SCORES = 3
"""Copies of the attention scores that the eager forward holds at once: scaled, with the sink, softmax."""

Precision = Literal["bf16", "mxfp4", "float32"]


@dataclass(frozen=True, slots=True)
class Load:
    """What one device trains on at a time."""

    rows: int
    length: int
    """Tokens of a row, prompt and completion."""
    sampled: int
    """Sampled tokens of a row."""
    rank: int = 32
    targets: tuple[Target, ...] = ("attention",)
    checkpointing: bool = True
    """Keep each layer's input alone and compute the rest again."""
    itemsize: int = 2
    """Bytes of a number of the base: 2 in bf16, 4 in float32."""


def weights(shape: Shape, precision: Precision) -> float:
    """Return the bytes of the base; in mxfp4 the experts' matrices alone are in 4 bits."""
    if precision == "mxfp4":
        return 2.0 * (shape.total - shape.expert_weights) + MXFP4 * shape.expert_weights
    return shape.total * (2.0 if precision == "bf16" else 4.0)


def adapter(shape: Shape, rank: int, targets: tuple[Target, ...]) -> float:
    """Return the bytes of an adapter with its gradient and its optimizer."""
    return float(ADAPTER * shape.lora(rank, targets))


def cache(shape: Shape, tokens: int, itemsize: int = 2) -> float:
    """Return the bytes of the key-value cache of a row; layers with a window keep no more than that."""
    full = shape.layers - shape.sliding
    return float(2 * shape.keys * itemsize * (full * tokens + shape.sliding * min(tokens, shape.window or tokens)))


def kept_by_layer(shape: Shape, load: Load) -> float:
    """Return the bytes that autograd keeps of one layer."""
    size, used = load.itemsize, max(shape.active, 1)
    queries, hidden = _KEPT[size]
    token = size * shape.heads * (load.length + 1) + queries * shape.queries + (hidden + size * used) * shape.hidden
    token += 6 * size * used * shape.intermediate + 16 * load.rank + 40 * used
    matrices = 0
    if "experts" in load.targets:
        token += size * used * (shape.hidden + shape.intermediate)
        # PEFT adds the update to all experts' matrices at once, and back-propagation needs the sum.
        matrices = 3 * size * shape.experts * shape.hidden * shape.intermediate
    return float(load.rows * load.length * token + matrices)


def activations(shape: Shape, load: Load) -> float:
    """Return the bytes that are kept of all layers between the forward and the backward pass, without the head."""
    if not load.checkpointing:
        return shape.layers * kept_by_layer(shape, load)
    inputs = load.itemsize * shape.layers * shape.hidden * load.rows * load.length
    return inputs + kept_by_layer(shape, load)


def head(shape: Shape, load: Load) -> float:
    """Return the bytes of the logits: of all positions, and of the sampled ones in float32 with their gradients."""
    return float(load.rows * shape.vocab * (load.itemsize * load.length + (load.itemsize + 20) * load.sampled))


def training(shape: Shape, load: Load, devices: int = 1) -> float:
    """Return the bytes on each device: sharded weights and optimizer, one layer whole, what the load takes."""
    precision: Precision = "bf16" if load.itemsize == 2 else "float32"
    base = weights(shape, precision)
    whole = 2 * (base - 2 * load.itemsize * shape.embedding) / shape.layers if devices > 1 else 0.0
    scores = _SCORES * load.itemsize * shape.heads * load.rows * load.length**2
    shared = (base + adapter(shape, load.rank, load.targets)) / devices
    return shared + whole + activations(shape, load) + scores + head(shape, load)
