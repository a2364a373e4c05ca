"""Data-centre GPUs by their data sheets, and what of a peak is assumed to be reached."""

from __future__ import annotations

from dataclasses import dataclass

from sia_flow.errors import SpecError

MFU = 0.40
"""Assumed share of the peak FLOP/s that training and prefill reach. An assumption, not a measurement."""
MBU = 0.60
"""Assumed share of the memory bandwidth that decoding reaches. An assumption, not a measurement."""
USABLE = 0.90
"""Share of a device's memory that may be planned with; the rest is the driver's, and fragmentation."""


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator; rates without sparsity."""

    name: str
    memory: float
    """Bytes."""
    flops: float
    """bfloat16 FLOP/s."""
    bandwidth: float
    """Bytes a second."""
    announced: str
    """When NVIDIA announced it; figures from its data sheet, as they stood in November 2026."""


DEVICES = {
    device.name: device
    for device in (
        Device("H100", 80e9, 989e12, 3.35e12, "2022-03"),
        Device("H200", 141e9, 989e12, 4.8e12, "2023-11"),
        Device("B200", 180e9, 2250e12, 8.0e12, "2024-03"),
    )
}


def device_named(name: str) -> Device:
    """Return a device of the table. Raises SpecError for another."""
    found = DEVICES.get(name.upper())
    if found is None:
        raise SpecError(f"no figures for the device {name!r}; known are {', '.join(DEVICES)}")
    return found
