"""An image as one sealed memory file: arrays at aligned offsets, then a JSON description.

Invariant: the file cannot be changed once it is packed, so every job of a session sees the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sia_flow.protocols import Image

_ALIGN = 64
_NUMERIC = "biufc"


class Packed(NamedTuple):
    """A sealed file and the message that goes with its descriptor."""

    handle: int
    header: bytes


def pack(image: Image, readable: Sequence[str]) -> Packed:
    """Pack an image. `readable` are the folders that jobs may read where mounts do not hide the rest.

    Raises ValueError for an array that is not numeric.
    """
    handle = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    forms: dict[str, dict[str, object]] = {}
    with os.fdopen(os.dup(handle), "wb") as file:
        for name, value in image.arrays.items():
            array = np.ascontiguousarray(value)
            if array.dtype.kind not in _NUMERIC:
                raise ValueError(
                    f"array {name!r} of the image has dtype {array.dtype}; only numbers can be mapped"
                )
            file.write(bytes(-file.tell() % _ALIGN))
            forms[name] = {"offset": file.tell(), "shape": list(value.shape), "dtype": array.dtype.str}
            file.write(array.tobytes())
        start = file.tell()
        text = _describe(image, forms, readable)
        file.write(text)
        size = file.tell()
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
    return Packed(handle, json.dumps({"size": size, "start": start, "length": len(text)}).encode())


def _describe(image: Image, forms: dict[str, dict[str, object]], readable: Sequence[str]) -> bytes:
    description = {
        "modules": dict(image.modules),
        "preload": list(image.preload),
        "warm": image.warm,
        "arrays": forms,
        "readable": list(readable),
    }
    return json.dumps(description).encode()
