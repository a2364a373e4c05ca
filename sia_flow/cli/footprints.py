"""The part of `sia-flow plan` that says what an experiment's weight updates would take on GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sia_flow.errors import SpecError
from sia_flow.plan.devices import MBU, MFU, device_named
from sia_flow.plan.footprint import PROMPT, Footprint, Work, footprint
from sia_flow.plan.shape import PUBLISHED, Shape, read_shape

if TYPE_CHECKING:
    from sia_flow.plan.project import Project
    from sia_flow.spec.models import Experiment

GIB = float(1 << 30)


def footprints(project: Project, experiment: Experiment, gpu: str) -> list[Footprint]:
    """Return the estimates for the experiment's own base and for the published gpt-oss models.

    Raises SpecError for a device without figures, and for a base that cannot be read.
    """
    device = device_named(gpu)
    policy, training = experiment.spec.policy, experiment.spec.training
    work = Work(
        calls=training.instances * training.samples,
        completion=policy.max_tokens,
        rank=policy.lora.rank,
        targets=policy.lora.targets,
        epochs=training.epochs or 1,
    )
    return [footprint(shape, work, device) for shape in _shapes(project, policy.base)]


def _shapes(project: Project, base: str) -> list[Shape]:
    from sia_flow.policy.bases import BUILTIN, resolve_base

    published = [shape for name, shape in PUBLISHED.items() if name != base]
    if base in PUBLISHED:
        return [PUBLISHED[base], *published]
    try:
        folder = resolve_base(base, project.models)
    except SpecError:
        if base not in BUILTIN:
            raise
        return published
    return [read_shape(folder), *published]


def footprint_json(found: Footprint) -> dict[str, Any]:
    """Return an estimate as JSON; bytes and seconds."""
    return {
        "model": found.shape.name,
        "gpu": found.device.name,
        "parameters": found.shape.total,
        "active_parameters": found.shape.used,
        "adapter_parameters": found.adapter,
        "weights_bf16": found.weights_bf16,
        "weights_mxfp4": found.weights_mxfp4 if found.shape.experts else None,
        "cache_per_row": found.cache_row,
        "training_gpus": found.trainers,
        "training_bytes_per_gpu": found.trainer_bytes,
        "sampling_gpus": found.samplers,
        "sampling_seconds": found.sample_seconds,
        "training_seconds": found.train_seconds,
    }


def show_footprints(name: str, found: list[Footprint]) -> None:
    """Print the estimates and what they assume."""
    from rich.console import Console
    from rich.table import Table

    device = found[0].device
    table = Table(title=f"an iteration of {name} on {device.name} (estimate)", title_justify="left")
    for column in (
        "model",
        "parameters",
        "adapter",
        "bf16",
        "mxfp4",
        "cache a row",
        "to train",
        "to sample",
        "seconds",
    ):
        table.add_column(column, justify="left" if column == "model" else "right")
    for one in found:
        table.add_row(
            one.shape.name,
            f"{_count(one.shape.total)}, {_count(one.shape.used)} used",
            _count(one.adapter),
            _bytes(one.weights_bf16),
            _bytes(one.weights_mxfp4) if one.shape.experts else "-",
            _bytes(one.cache_row),
            f"{one.trainers or 'more than 64'} x {_bytes(one.trainer_bytes)}",
            str(one.samplers or "more than 64"),
            f"{one.sample_seconds:.2g} + {one.train_seconds:.2g}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"assumed, not measured: prompts of {PROMPT} tokens, completions of max_tokens, {MFU:.0%} of the peak FLOP/s, "
        f"{MBU:.0%} of the bandwidth; training in bf16 with checkpointing, sampling with experts in mxfp4; figures of "
        f"the {device.name}: {device.flops / 1e12:.0f} TFLOP/s, {device.bandwidth / 1e12:.3g} TB/s, "
        f"{device.memory / 1e9:.0f} GB",
        highlight=False,
        style="dim",
    )


def _count(number: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _bytes(number: float) -> str:
    return f"{number / GIB:.3g} GiB" if number >= 0.1 * GIB else f"{number / (1 << 20):.3g} MiB"
