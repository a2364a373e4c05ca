"""What a model of some shape takes to be trained and sampled: parameters, bytes, seconds of an iteration.

Invariant: a function of the shape, the work and the device's data sheet; the assumptions stand in `devices`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sia_flow.plan import memory
from sia_flow.plan.devices import MBU, MFU, USABLE, Device
from sia_flow.plan.memory import Load
from sia_flow.plan.shape import Shape, Target

COUNTS = (1, 2, 4, 8, 16, 32, 64)
PROMPT = 512
"""Tokens of a prompt, where nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One iteration of a weight update."""

    calls: int
    """Completions to sample and to train on."""
    completion: int
    """Tokens of each."""
    rank: int
    targets: tuple[Target, ...]
    prompt: int = PROMPT
    epochs: int = 1
    rows: int = 1
    """Rows that a device trains on at a time."""

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.prompt + self.completion

    @property
    def load(self) -> Load:
        """What a device holds at a time."""
        return Load(self.rows, self.length, self.completion, self.rank, self.targets)


@dataclass(frozen=True, slots=True)
class Footprint:
    """An estimate; bytes and seconds."""

    shape: Shape
    device: Device
    adapter: int
    """Parameters of the adapter."""
    weights_bf16: float
    weights_mxfp4: float
    cache_row: float
    """Key-value cache of one row at its full length."""
    trainers: int | None
    """Devices that training needs at least; None if `COUNTS` has not enough."""
    trainer_bytes: float
    """On each of them."""
    samplers: int | None
    """Devices that sampling needs at least, with the experts in mxfp4 and half of the rows in the cache."""
    sample_seconds: float
    train_seconds: float

    @property
    def iteration_seconds(self) -> float:
        """Sampling, then training; the verifier's time is not in it."""
        return self.sample_seconds + self.train_seconds


def footprint(shape: Shape, work: Work, device: Device) -> Footprint:
    """Return the estimate for a shape."""
    room = USABLE * device.memory
    trainers = next((n for n in COUNTS if memory.training(shape, work.load, n) <= room), None)
    row = memory.cache(shape, work.length)
    served = memory.weights(shape, "mxfp4") if shape.experts else memory.weights(shape, "bf16")
    samplers = next((n for n in COUNTS if served + row * min(work.calls, 64) / 2 <= n * room), None)
    return Footprint(
        shape=shape,
        device=device,
        adapter=shape.lora(work.rank, work.targets),
        weights_bf16=memory.weights(shape, "bf16"),
        weights_mxfp4=memory.weights(shape, "mxfp4"),
        cache_row=row,
        trainers=trainers,
        trainer_bytes=memory.training(shape, work.load, trainers or COUNTS[-1]),
        samplers=samplers,
        sample_seconds=sampling_seconds(shape, work, device, samplers or COUNTS[-1]),
        train_seconds=training_seconds(shape, work, device, trainers or COUNTS[-1]),
    )


def forward_flops(shape: Shape, length: int) -> float:
    """Return the FLOPs of a forward pass over one row: two a used parameter and token, and attention's own."""
    seen = (shape.layers - shape.sliding) * length / 2 + shape.sliding * min(shape.window, length / 2)
    return length * (2.0 * shape.used + 4.0 * seen * shape.queries)


def training_seconds(shape: Shape, work: Work, device: Device, devices: int) -> float:
    """Return the seconds of measuring and of the optimizer steps.

    Measuring is two forwards, policy and base. A step is a forward to find the slope of the loss, another that
    keeps the layers' inputs, a third that computes the rest again, and a backward through activations alone, which
    costs one forward: the frozen base takes no gradient.
    """
    passes = 2 + 4 * work.epochs
    return work.calls * passes * forward_flops(shape, work.length) / (MFU * device.flops * devices)


def sampling_seconds(shape: Shape, work: Work, device: Device, devices: int) -> float:
    """Return the seconds of sampling all calls: prefill by FLOPs, then decoding by the bytes that each step reads."""
    prefill = work.calls * forward_flops(shape, work.prompt) / (MFU * device.flops * devices)
    served = memory.weights(shape, "mxfp4") if shape.experts else memory.weights(shape, "bf16")
    room = USABLE * device.memory * devices - served
    batch = max(1, min(work.calls, math.floor(room / memory.cache(shape, work.length))))
    read = step_bytes(shape, batch) + batch * memory.cache(shape, work.prompt + work.completion // 2)
    steps = work.completion * math.ceil(work.calls / batch)
    return prefill + steps * read / (MBU * device.bandwidth * devices)


def step_bytes(shape: Shape, batch: int) -> float:
    """Return the bytes of weights that one decoding step reads: of the experts those that any row of it chose."""
    if not shape.experts:
        return memory.weights(shape, "bf16") - 2.0 * shape.embedding
    touched = 1.0 - (1.0 - shape.active / shape.experts) ** batch
    others = 2.0 * (shape.total - shape.expert_weights - shape.embedding)
    return others + touched * memory.MXFP4 * shape.expert_weights
