"""The host's end of a job's wire: u32 length, one tag, body; each tag with its own cap, checked before
anything is read.

Invariant: the host allocates no more than it asked for, whatever length a job announces.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

_HEAD = struct.Struct("=IB")


class FrameError(Exception):
    """A job broke the protocol; carries the outcome's status."""

    def __init__(self, status: str, error: str) -> None:
        super().__init__(error)
        self.status = status


class Frame(NamedTuple):
    """One message of a job."""

    tag: bytes
    body: bytearray


class FrameReader:
    """Reads frames from a non-blocking socket, one at a time.

    `caps` gives the largest body by tag; `exact` the only length that a tag's body may have.
    """

    def __init__(self, connection: socket.socket, caps: Mapping[bytes, int], exact: Mapping[bytes, int]) -> None:
        self._connection = connection
        self._caps = {**caps, **exact}
        self._exact = exact
        self._buffer = bytearray(_HEAD.size)
        self._filled = 0
        self._tag = b""
        self.closed = False

    def next(self) -> Frame | None:
        """Return the next whole frame, or None when more bytes must come first. Raises FrameError."""
        while self._fill():
            if self._tag:
                frame = Frame(self._tag, self._buffer)
                self._expect(b"", _HEAD.size)
                return frame
            size, tag = _HEAD.unpack(self._buffer)
            self._announce(size - 1, bytes([tag]))
        return None

    def _announce(self, size: int, tag: bytes) -> None:
        if tag not in self._caps or size < 0:
            raise FrameError("BAD_RESULT", "the job spoke no frame of the protocol")
        if size > self._caps[tag]:
            raise FrameError("RESULT_TOO_BIG", f"a message of {size} bytes, at most {self._caps[tag]} are taken")
        if size != self._exact.get(tag, size):
            raise FrameError("BAD_RESULT", f"a result of {size} bytes, {self._exact[tag]} were declared")
        self._expect(tag, size)

    def _expect(self, tag: bytes, size: int) -> None:
        self._tag, self._buffer, self._filled = tag, bytearray(size), 0

    def _fill(self) -> bool:
        """Read until the buffer is full; False when the job has to send more first."""
        view = memoryview(self._buffer)
        while self._filled < len(view):
            try:
                count = self._connection.recv_into(view[self._filled :])
            except BlockingIOError:
                return False
            except ConnectionError:
                count = 0
            if count == 0:
                self.closed = True
                return False
            self._filled += count
        return True
