"""Serves a timed candidate: one warm process, many calls; inputs and results lie in memory shared with the host.

Invariant: nothing here reads a clock or is believed. The host writes a call's inputs only after it began to count
this process's time, and copies the result before it stops; so whatever a candidate does to this module, what it hands
in was computed on the count.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .refusal import Refused
from .wire import Wire


class Call(NamedTuple):
    """One form of call: the arrays that the candidate is given, and the place for what it returns."""

    data: Mapping[str, Any]
    result: Any


def serve(entry: Callable[[dict[str, Any]], Any], wire: Wire, forms: Sequence[Mapping[str, Any]]) -> None:
    """Answer the host's calls until it hangs up. Raises Refused for a result of another form."""
    calls = _map(forms, *wire.receive_handles(2))
    wire.send(b"R")
    while (number := wire.receive_number()) is not None:
        call = calls[number]
        _store(entry(dict(call.data)), call.result)
        wire.send(b"D")


def _map(forms: Sequence[Mapping[str, Any]], inputs: int, results: int) -> list[Call]:
    """Map the shared memory; the inputs for reading alone."""
    given = mmap.mmap(inputs, os.fstat(inputs).st_size, prot=mmap.PROT_READ)
    taken = mmap.mmap(results, os.fstat(results).st_size)
    os.close(inputs)
    os.close(results)
    return [
        Call({name: _view(given, one) for name, one in form["arrays"].items()}, _view(taken, form["returns"]))
        for form in forms
    ]


def _view(memory: mmap.mmap, form: Mapping[str, Any]) -> Any:
    import numpy as np

    count = 1
    for size in form["shape"]:
        count *= size
    flat = np.frombuffer(memory, dtype=form["dtype"], count=count, offset=form["offset"])
    return flat.reshape(form["shape"])


def _store(value: Any, place: Any) -> None:
    """Copy a result to where the host reads it."""
    import numpy as np

    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise Refused("BAD_RESULT", f"the result is not an array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise Refused("BAD_RESULT", f"the result must be real numbers, got dtype {array.dtype}")
    if array.shape != place.shape:
        raise Refused("BAD_SHAPE", f"the result must have shape {place.shape}, got {array.shape}")
    with np.errstate(all="ignore"):
        np.copyto(place, array, casting="unsafe")
