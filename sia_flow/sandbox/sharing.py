"""The memory that the host shares with one timed job: inputs that the job may only read, and a place for results.

Invariant: neither file can shrink under the host, and the job has no descriptor that could write its inputs.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sia_flow.protocols import ArraySpec, CallForm

_ALIGN = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Shared:
    """Memory for every form of call of one program; the forms lie on top of each other."""

    def __init__(self, forms: Sequence[CallForm]) -> None:
        self._forms = forms
        self.description: list[dict[str, Any]] = []
        """What the job is told: where each array lies."""
        given, taken = 1, 1
        for form in forms:
            places, size = _lay_out(form.arrays)
            self.description.append({"arrays": places, "returns": _place(form.returns, 0)})
            given, taken = max(given, size), max(taken, _bytes(form.returns))
        self._given, self._taken = _Region(given), _Region(taken)

    def handles(self) -> tuple[int, int]:
        """Return new descriptors for the job, of inputs and results; the caller closes them."""
        inputs = os.open(f"/proc/self/fd/{self._given.handle}", os.O_RDONLY | os.O_CLOEXEC)
        return inputs, os.dup(self._taken.handle)

    def write(self, number: int, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Lay out the inputs of a call, and NaN where its result will be. Raises ValueError for another form."""
        form = self._forms[number]
        if set(inputs) != set(form.arrays):
            raise ValueError(f"a call of form {number} takes {', '.join(form.arrays)}, got {', '.join(inputs)}")
        for name, place in self.description[number]["arrays"].items():
            np.copyto(_view(self._given.memory, place), inputs[name], casting="no")
        _view(self._taken.memory, self.description[number]["returns"]).fill(np.nan)

    def result(self, number: int) -> NDArray[Any]:
        """Return a copy of what lies in the place of the result."""
        return _view(self._taken.memory, self.description[number]["returns"]).copy()

    def close(self) -> None:
        """Give the memory back."""
        self._given.close()
        self._taken.close()


class _Region:
    """A sealed memory file, mapped here."""

    def __init__(self, size: int) -> None:
        self.handle = os.memfd_create("call", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.handle, size)
        fcntl.fcntl(self.handle, fcntl.F_ADD_SEALS, _SEALS)
        # The job is another user, and opens it by no name; the mode keeps it from being opened again for writing.
        Path(f"/proc/self/fd/{self.handle}").chmod(0o400)
        self.memory = mmap.mmap(self.handle, size)

    def close(self) -> None:
        self.memory.close()
        os.close(self.handle)


def _lay_out(arrays: Mapping[str, ArraySpec]) -> tuple[dict[str, dict[str, Any]], int]:
    places, end = {}, 0
    for name, spec in arrays.items():
        end += -end % _ALIGN
        places[name] = _place(spec, end)
        end += _bytes(spec)
    return places, end


def _place(spec: ArraySpec, offset: int) -> dict[str, Any]:
    return {"shape": list(spec.shape), "dtype": np.dtype(spec.dtype).str, "offset": offset}


def _bytes(spec: ArraySpec) -> int:
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _view(memory: mmap.mmap, place: Mapping[str, Any]) -> NDArray[Any]:
    count = math.prod(place["shape"])
    flat = np.frombuffer(memory, dtype=place["dtype"], count=count, offset=place["offset"])
    return flat.reshape(place["shape"])
