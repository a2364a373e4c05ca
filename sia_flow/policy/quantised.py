"""Checkpoints in less than 16 bits: mxfp4 is unpacked on loading, all else is refused.

Invariant: a base is in memory as numbers that gradients pass through, or it is not loaded; what does not fit is
refused before the first tensor is read, not by the kernel in the middle.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sia_flow.errors import SpecError
from sia_flow.policy.bases import weight_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BLOCKS, SCALES = "_blocks", "_scales"
"""Ends of the names of an mxfp4 checkpoint's tensors: two weights a byte, and a scale for each block of 32."""
_MEMINFO = Path("/proc/meminfo")


def unpacking(config: PretrainedConfig, folder: Path) -> dict[str, Any]:
    """Return what `from_pretrained` needs to unpack the checkpoint; nothing for one that is not quantised.

    Raises SpecError for a quantisation that adapters cannot be trained on.
    """
    found = getattr(config, "quantization_config", None)
    if found is None:
        return {}
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    method = getattr(method, "value", method)
    if method != "mxfp4":
        raise SpecError(
            f"the base model in {folder} is quantised by {method}; adapters are trained on mxfp4, which is unpacked, "
            "or on plain weights: convert the checkpoint to bfloat16"
        )
    from transformers import Mxfp4Config

    return {"quantization_config": Mxfp4Config(dequantize=True)}


def loaded_bytes(folder: Path, itemsize: int | None) -> int:
    """Return the bytes of a checkpoint's weights once they are unpacked.

    `itemsize` is that of every number; None keeps the file's own, 2 for what is packed. Reads headers alone. Raises
    SpecError for a file that is not whole.
    """
    return sum(_size(name, entry, itemsize) for file in weight_files(folder) for name, entry in _header(file).items())


def check_room(folder: Path, device: str, itemsize: int | None) -> None:
    """Raise SpecError when the unpacked weights are larger than what the device has free."""
    need = loaded_bytes(folder, itemsize)
    free = _free(device)
    if free is not None and need > free:
        gib = 1 << 30
        raise SpecError(
            f"the base model in {folder} takes {need / gib:.1f} GiB on {device}, where {free / gib:.1f} GiB are free; "
            "train it on a larger device or sharded over several (docs/large-models.md), or sample it on a server "
            "(policy.type: openai)"
        )


def _size(name: str, entry: dict[str, Any], itemsize: int | None) -> int:
    if name.endswith(SCALES) and entry["dtype"] == "U8":
        return 0
    count = int(prod(entry["shape"]))
    if name.endswith(BLOCKS) and entry["dtype"] == "U8":
        return 2 * count * (itemsize or 2)
    start, end = map(int, entry["data_offsets"])
    return count * itemsize if itemsize else end - start


def _header(file: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a safetensors file: eight bytes of length, then as much JSON."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= file.stat().st_size else None
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read the weights in {file}: {error}") from error
    if not isinstance(header, dict):
        raise SpecError(f"cannot read the weights in {file}: it is cut off; copy it again")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _free(device: str) -> int | None:
    """Return the free bytes of a device; None where they are not told."""
    if device != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    except (OSError, ValueError):
        return None
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None
