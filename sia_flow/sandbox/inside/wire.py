"""The job's end of the wire: u32 length, one tag byte, body. The host trusts nothing of it.

Tags to the host: S started, C call, A array, T text, E error; of a timed job R ready, D done. To the job: one JSON
frame for the request, one for each answer; to a timed job its memory, then one byte a call.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any

ERROR_CAP = 500


class Wire:
    """Frames over the job's socket. One call is outstanding at a time, whatever threads the candidate has."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, tag: bytes, *parts: bytes | memoryview) -> None:
        """Send one frame."""
        size = 1 + sum(len(part) for part in parts)
        self._connection.sendall(struct.pack("=I", size) + tag)
        for part in parts:
            self._connection.sendall(part)

    def receive(self) -> Any:
        """Return the next frame of the host."""
        (size,) = struct.unpack("=I", self._exactly(4))
        return json.loads(self._exactly(size))

    def call(self, method: str, params: dict[str, Any]) -> Any:
        """Ask the host and wait. Raises RuntimeError with the host's refusal."""
        body = json.dumps({"method": method, "params": params}, allow_nan=False, ensure_ascii=False).encode()
        with self._lock:
            self.send(b"C", body)
            answer = self.receive()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def receive_handles(self, count: int) -> list[int]:
        """Return descriptors that the host sends along with one byte."""
        _, handles, _, _ = socket.recv_fds(self._connection, 1, count)
        if len(handles) != count:
            raise ConnectionError("the host sent too few descriptors")
        return handles

    def receive_number(self) -> int | None:
        """Return the next single byte of the host as a number; None when it has hung up."""
        data = self._connection.recv(1)
        return data[0] if data else None

    def fail(self, status: str, error: str) -> None:
        """Report how the candidate failed."""
        text = "".join(char if char.isprintable() else " " for char in error).strip()[:ERROR_CAP]
        self.send(b"E", json.dumps({"status": status, "error": text}).encode())

    def _exactly(self, size: int) -> bytes:
        buffer = bytearray()
        while len(buffer) < size:
            part = self._connection.recv(min(1 << 20, size - len(buffer)))
            if not part:
                raise ConnectionError("the host has gone")
            buffer += part
        return bytes(buffer)
