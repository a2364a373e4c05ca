"""The GPU form: cases, inputs, a plain torch reference, the check, and the timing of one kernel on one device.

Invariants: every repeat has new inputs, weights included, and its output is checked; a time is that of the device
between two events, with its second-level cache flushed before. Kernel and clock share a process: this measures kernels
of our own, and is no place for a program that a model wrote.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sia_flow.canonical import derive_seed
from sia_flow.errors import TaskError
from tasks.trimul.cases import Case

if TYPE_CHECKING:
    import torch

Data = Mapping[str, "torch.Tensor"]
Kernel = Callable[[dict[str, "torch.Tensor"]], "torch.Tensor"]

TOLERANCE = 0.02
"""|out - ref| <= 0.02 + 0.02 |ref|, as the published form has it."""
PAPER_REWARD = 1500.0
FLUSHED = 256 << 20
"""Bytes written between calls: more than the second-level cache of any device that is sold."""
BY_HAND = (
    "programs that a model wrote are not run on a GPU, since the sandbox shows them no device; "
    "`python benchmarks/trimul.py gpu` checks and times kernels of your own"
)

CHECKS = (
    Case(32, 1, 128, 128, masked=True),
    Case(32, 2, 128, 128, distribution="cauchy"),
    Case(64, 1, 128, 128),
    Case(64, 2, 256, 128, masked=True, distribution="cauchy"),
    Case(96, 1, 384, 128, masked=True),
    Case(128, 1, 128, 128, distribution="cauchy"),
    Case(128, 2, 128, 128, masked=True),
    Case(128, 1, 768, 128),
    Case(192, 1, 384, 128, masked=True, distribution="cauchy"),
    Case(256, 1, 128, 128, masked=True),
    Case(256, 2, 128, 128),
    Case(256, 1, 768, 128, masked=True, distribution="cauchy"),
    Case(384, 1, 128, 128, distribution="cauchy"),
    Case(512, 1, 128, 128, masked=True),
    Case(512, 2, 384, 128),
    Case(768, 1, 128, 128, distribution="cauchy"),
    Case(768, 1, 256, 128, masked=True),
    Case(1024, 1, 128, 128),
)
"""Eighteen cases of our choice in the published ranges: side 32 to 1024, 128 to 768 channels, one or two in a batch."""

TIMED = (
    Case(256, 2, 128, 128),
    Case(768, 1, 128, 128, distribution="cauchy"),
    Case(256, 2, 384, 128, masked=True),
    Case(512, 1, 128, 128),
    Case(1024, 1, 128, 128, distribution="cauchy"),
    Case(768, 1, 384, 128, masked=True),
    Case(1024, 1, 384, 128),
)
"""The seven published shapes."""


def why_not() -> str | None:
    """Return why the GPU form cannot run here, or None where it can."""
    import torch

    if not torch.cuda.is_available():
        return "there is no CUDA device here; use mode cpu, or a machine with one"
    return None


def draw(case: Case, seed: int, device: str) -> dict[str, torch.Tensor]:
    """Draw a case's inputs on a device, float32."""
    import torch

    generator = torch.Generator(device=device).manual_seed(seed % 2**63)
    found = {}
    for name, shape in case.shapes().items():
        value = torch.randn(shape, device=device, generator=generator)
        if name == "x" and case.distribution == "cauchy":
            value /= torch.randn(shape, device=device, generator=generator)
        elif name == "mask":
            value = (torch.rand(shape, device=device, generator=generator) < (0.8 if case.masked else 2.0)).float()
        elif len(shape) == 1:
            value = 0.1 * value + (1.0 if name.endswith("_w") else 0.0)
        elif name != "x":
            value /= math.sqrt(shape[1])
        found[name] = value
    return found


def reference(data: Data) -> torch.Tensor:
    """Return the update in plain torch, float32: what kernels are compared with and timed against."""
    import torch
    from torch.nn import functional

    mask = data["mask"][..., None]
    z = functional.layer_norm(data["x"], data["norm_w"].shape, data["norm_w"], data["norm_b"])
    left = functional.linear(z, data["left"]) * mask * functional.linear(z, data["left_gate"]).sigmoid()
    right = functional.linear(z, data["right"]) * mask * functional.linear(z, data["right_gate"]).sigmoid()
    gate = functional.linear(z, data["out_gate"]).sigmoid()
    o = torch.einsum("bikd,bjkd->bijd", left, right)
    o = functional.layer_norm(o, data["out_norm_w"].shape, data["out_norm_w"], data["out_norm_b"]) * gate
    return functional.linear(o, data["out"])


def fault(output: object, expected: torch.Tensor) -> str | None:
    """Return what is wrong with a kernel's output, or None; NaN and infinities must stand at equal places."""
    import torch

    if not isinstance(output, torch.Tensor) or type(output) is not torch.Tensor:
        return "the output is no plain tensor"
    if output.shape != expected.shape:
        return f"the output must have shape {tuple(expected.shape)}, got {tuple(output.shape)}"
    output = output.to(expected.dtype)
    if not torch.equal(output.isnan(), expected.isnan()) or not torch.equal(output.isinf(), expected.isinf()):
        return "NaN or infinite values stand where the reference has none, or the other way round"
    finite = expected.isfinite()
    error = (output - expected).abs()[finite] - TOLERANCE * expected.abs()[finite]
    worst = float(error.max()) if error.numel() else 0.0
    return None if worst <= TOLERANCE else f"off by {worst:.3g} more than 2 % of the value; 0.02 is allowed"


@dataclass(frozen=True, slots=True)
class Timed:
    """A kernel's times on one case, microseconds."""

    case: str
    mean: float
    least: float
    repeats: int


def check(kernel: Kernel, cases: Sequence[Case], device: str, seed: int) -> None:
    """Run a kernel once on every case. Raises TaskError that names the first on which it is wrong."""
    for number, case in enumerate(cases):
        data = draw(case, derive_seed("trimul gpu check", seed, number), device)
        found = fault(kernel(dict(data)), reference(data))
        if found is not None:
            raise TaskError(f"trimul, case {case.name} on {device}: {found}")


def measure(kernel: Kernel, case: Case, device: str, seed: int, repeats: int = 20) -> Timed:
    """Time a kernel on a case, every repeat on new inputs and checked. Raises TaskError where one is wrong."""
    times = []
    for repeat in range(-2, repeats):
        data = draw(case, derive_seed("trimul gpu", seed, case.name, repeat), device)
        expected = reference(data)
        given = {name: value.clone() for name, value in data.items()}
        with _flushed(device) as clock:
            output = kernel(given)
        found = fault(output, expected)
        if found is not None:
            raise TaskError(f"trimul, case {case.name} on {device}, repeat {repeat}: {found}")
        if repeat >= 0:
            times.append(clock.microseconds)
    return Timed(case.name, math.fsum(times) / len(times), min(times), repeats)


def reward(timed: Sequence[Timed]) -> float:
    """Return 1500 over the geometric mean of the mean times in microseconds."""
    return PAPER_REWARD / math.exp(math.fsum(math.log(t.mean) for t in timed) / len(timed))


class _Clock:
    """Time of the device between entry and exit; on the CPU, of this process."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        self.microseconds = 0.0

    def __enter__(self) -> Self:
        import torch

        if self._cuda:
            event: Any = torch.cuda.Event
            self._events = [event(enable_timing=True) for _ in range(2)]
            torch.cuda.synchronize()
            self._events[0].record()
        else:
            self._start = time.process_time_ns()
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        if self._cuda:
            # The legacy stream waits for all others: work on a stream of the kernel's own is on the clock.
            torch.cuda.synchronize()
            self._events[1].record()
            torch.cuda.synchronize()
            self.microseconds = 1000.0 * self._events[0].elapsed_time(self._events[1])
        else:
            self.microseconds = (time.process_time_ns() - self._start) / 1000.0


def _flushed(device: str) -> _Clock:
    """Flush the second-level cache and return a clock."""
    import torch

    if device.startswith("cuda"):
        torch.empty(FLUSHED // 4, dtype=torch.int32, device=device).zero_()
    return _Clock(device)


def ladder() -> Iterator[tuple[str, Kernel]]:
    """Yield name and kernel of the GPU ladder, our own files; Triton compiles from a file, never from a text."""
    for path in sorted((Path(__file__).parent / "ladder_gpu").glob("*.py")):
        yield path.stem, load(path)


def load(path: Path) -> Kernel:
    """Return the `custom_kernel` of a file that is trusted."""
    spec = importlib.util.spec_from_file_location(f"trimul_gpu_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel: Kernel = module.custom_kernel
    return kernel
