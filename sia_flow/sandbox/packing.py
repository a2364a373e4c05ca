"""An image as one sealed memory file: arrays at aligned offsets, then a JSON description.

Invariant: the file cannot be changed once it is packed, so every job of a session sees the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sia_flow.protocols import Image

_ALIGN = 64
_NUMERIC = "biufc"


class Packed(NamedTuple):
    """A sealed file and the message that goes with its descriptor."""

    handle: int
    header: bytes


def pack(image: Image, shown: Mapping[str, object]) -> Packed:
    """Pack an image with `shown`, what the zygote is told of the paths (`backends.view`).

    Raises ValueError for an array that is not numeric.
    """
    handle = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    forms: dict[str, dict[str, object]] = {}
    with os.fdopen(os.dup(handle), "wb") as file:
        for name, value in image.arrays.items():
            array = np.ascontiguousarray(value)
            if array.dtype.kind not in _NUMERIC:
                raise ValueError(f"array {name!r} of the image has dtype {array.dtype}; only numbers can be mapped")
            file.write(bytes(-file.tell() % _ALIGN))
            forms[name] = {"offset": file.tell(), "shape": list(value.shape), "dtype": array.dtype.str}
            file.write(array.tobytes())
        start = file.tell()
        text = _describe(image, forms, shown)
        file.write(text)
        size = file.tell()
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
    return Packed(handle, json.dumps({"size": size, "start": start, "length": len(text)}).encode())


def _describe(image: Image, forms: dict[str, dict[str, object]], shown: Mapping[str, object]) -> bytes:
    description = {
        "modules": dict(image.modules),
        "preload": list(image.preload),
        "warm": image.warm,
        "arrays": forms,
        **shown,
    }
    return json.dumps(description).encode()
