"""Messages between the host and a verifier's process: strict bounded JSON, and arrays as raw bytes of declared form.

Invariants: nothing is unpickled on either side; what a message announces is checked before any of it is taken in. The
host's arrays go through memory that both have, where they fit: a pipe costs a change of process every 200 KiB. The next
message changes nothing of what a verifier still holds on to.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sia_flow.sandbox.strict_json import Caps, HostileJsonError, parse

HEAD = struct.Struct("=IQB")
"""Bytes of the JSON, bytes of the arrays, and which part of the room these are in, 0 for none."""
PARTS = 2
"""One is read while the other is written."""
ROOM = 16 << 20
"""Bytes of a part."""
SMALL = 1 << 15
"""Bytes that go with the message itself."""
TEXT = Caps(size=256 << 20, depth=64, nodes=20_000_000, digits=4000)
"""Room for ten thousand questions at once."""
MOST = 8 << 30
"""Bytes of all arrays of one message."""
_DTYPE = re.compile(r"^[<>|=][biufc](1|2|4|8|16|32)$")
_DIMENSIONS = 32

Fill = Callable[[memoryview], None]
"""Reads until a buffer is full."""


Form = tuple[np.dtype[Any], tuple[int, ...], int]
"""dtype, shape and bytes of an array."""


class WireError(Exception):
    """A message that is none; the message says why."""


class Message(NamedTuple):
    """One message."""

    header: dict[str, Any]
    arrays: list[NDArray[Any]]


class Room:
    """The host's end of memory that it shares with one verifier's process: it writes, the other one reads."""

    def __init__(self) -> None:
        """Make it. Raises OSError where files may not be as large."""
        self.handle = os.memfd_create("room", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.handle, PARTS * ROOM)
        except OSError:
            os.close(self.handle)
            raise
        # Who shrank it would kill the host.
        fcntl.fcntl(self.handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        self._memory = mmap.mmap(self.handle, PARTS * ROOM)
        self._last = 0

    def put(self, parts: Sequence[memoryview]) -> int:
        """Write one after the other to the part whose turn it is, and return its number, from 1."""
        self._last = self._last % PARTS + 1
        start = (self._last - 1) * ROOM
        for part in parts:
            self._memory[start : start + len(part)] = part
            start += len(part)
        return self._last

    def close(self) -> None:
        """Let go of it."""
        self._memory.close()
        os.close(self.handle)


class RoomReader:
    """The verifier's end of it."""

    def __init__(self, handle: int) -> None:
        self._memory = memoryview(mmap.mmap(handle, PARTS * ROOM, prot=mmap.PROT_READ))

    def copy(self, part: int, size: int) -> memoryview:
        """Return a copy of the first bytes of a part; to map them for each message costs more in page faults."""
        start = (part - 1) * ROOM
        return memoryview(bytearray(self._memory[start : start + size]))


def pack(header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = (), room: Room | None = None) -> list[memoryview]:
    """Return the parts of a message that are to be sent. Raises WireError for no plain JSON, or no array of numbers."""
    plain = [np.ascontiguousarray(array).reshape(array.shape) for array in arrays]
    forms = [[array.dtype.str, list(array.shape)] for array in plain]
    for dtype, shape in forms:
        if not _DTYPE.match(str(dtype)):
            raise WireError(f"an array of dtype {dtype} and shape {shape}; only numbers go between processes")
    try:
        text = json.dumps({**header, "arrays": forms}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"what is no plain JSON: {error}") from error
    size = sum(array.nbytes for array in plain)
    if len(data) > TEXT.size or size > MOST:
        raise WireError(f"a message of {len(data)} and {size} bytes; {TEXT.size} and {MOST} are the most")
    parts = [memoryview(array.reshape(-1).view(np.uint8).data) for array in plain if array.nbytes]
    if room is not None and SMALL < size <= ROOM:
        return [memoryview(HEAD.pack(len(data), size, room.put(parts)) + data)]
    return [memoryview(HEAD.pack(len(data), size, 0) + data), *parts]


def unpack(fill: Fill, room: RoomReader | None = None) -> Message:
    """Return the next message. Raises WireError, and what `fill` raises."""
    head = bytearray(HEAD.size)
    fill(memoryview(head))
    length, size, part = HEAD.unpack(head)
    if length > TEXT.size or size > (ROOM if part else MOST) or part > PARTS:
        raise WireError(f"a message of {length} and {size} bytes; {TEXT.size} and {MOST} are the most")
    text = bytearray(length)
    fill(memoryview(text))
    header = _header(bytes(text))
    forms = [_form(form) for form in _list(header.pop("arrays", None))]
    if sum(nbytes for _, _, nbytes in forms) != size:
        raise WireError(f"arrays of {size} bytes, which is not what was declared")
    if not part:
        return Message(header, [_array(fill, *form) for form in forms])
    if room is None:
        raise WireError("arrays where this side does not look")
    return Message(header, _placed(room.copy(part, size), forms))


def _header(data: bytes) -> dict[str, Any]:
    try:
        header = parse(data, TEXT)
    except HostileJsonError as error:
        raise WireError(f"a message that is no plain JSON: {error}") from error
    if not isinstance(header, dict):
        raise WireError("a message that is no object")
    return header


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise WireError("a message that does not say what its arrays are")
    return value


def _form(form: Any) -> Form:
    """Return dtype, shape and bytes of a declared array."""
    if not isinstance(form, list) or len(form) != 2:
        raise WireError("an array without dtype and shape")
    dtype, shape = form
    if not isinstance(dtype, str) or not _DTYPE.match(dtype):
        raise WireError("an array that does not hold numbers")
    if not isinstance(shape, list) or len(shape) > _DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise WireError("an array without a shape")
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise WireError(f"an array of dtype {dtype}") from error
    # An empty array too may be of no shape that numpy knows.
    if math.prod(max(n, 1) for n in shape) * found.itemsize > MOST:
        raise WireError("an array that is too large")
    return found, tuple(shape), math.prod(shape) * found.itemsize


def _array(fill: Fill, dtype: np.dtype[Any], shape: tuple[int, ...], nbytes: int) -> NDArray[Any]:
    buffer = bytearray(nbytes)
    fill(memoryview(buffer))
    return np.frombuffer(buffer, dtype=dtype).reshape(shape)


def _placed(view: memoryview, forms: Sequence[Form]) -> list[NDArray[Any]]:
    found, start = [], 0
    for dtype, shape, nbytes in forms:
        found.append(np.frombuffer(view[start : start + nbytes], dtype=dtype).reshape(shape))
        start += nbytes
    return found
