"""One timed program, as the host holds it: its socket, its shared memory, its captured output.

Invariant: nothing that the program says is taken for a time; its frames mean that it is ready, done, or has failed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import cast

from sia_flow.protocols import CallForm, Job, Limits, Outcome, Status
from sia_flow.sandbox.frames import Frame, FrameError, FrameReader
from sia_flow.sandbox.link import Exit, Meter
from sia_flow.sandbox.running import ERROR_FRAME_CAP, FLOOD, encode, post_mortem, reported, request_of
from sia_flow.sandbox.sharing import Shared


class TimedRun:
    """State of one timed program between its fork and its end."""

    def __init__(
        self, job: Job, forms: Sequence[CallForm], limits: Limits, connection: socket.socket, output: int
    ) -> None:
        self.connection = connection
        self.shared = Shared(forms)
        self.started = False
        self.ready = False
        self.over: Exit | None = None
        self.last: Meter | None = None
        """What it had used when its last call ended."""
        self._job = job
        self._limits = limits
        self._output = output
        self._printing = True
        self._captured = bytearray()
        self._written = 0
        self._reader = FrameReader(connection, {b"E": ERROR_FRAME_CAP}, {b"S": 0, b"R": 0, b"D": 0})

    @property
    def closed(self) -> bool:
        """Whether the program has hung up."""
        return self._reader.closed

    @property
    def flooded(self) -> bool:
        """Whether it wrote more than is read."""
        return self._written > FLOOD * self._limits.output

    def introduce(self) -> None:
        """Send the program and its memory. Raises OSError."""
        self.connection.sendall(encode({**request_of(self._job), "forms": self.shared.description}))
        handles = self.shared.handles()
        try:
            socket.send_fds(self.connection, [b"M"], list(handles))
        finally:
            for handle in handles:
                os.close(handle)

    def go(self, form: int) -> None:
        """Let a call of a form begin; one that has hung up is found out when it is waited for."""
        with contextlib.suppress(OSError):
            self.connection.send(struct.pack("=B", form))

    def next(self) -> Frame | None:
        """Return the program's next frame, or None. Raises FrameError."""
        return self._reader.next()

    def printing(self) -> tuple[int, ...]:
        """Return the descriptor of its output while that is open."""
        return (self._output,) if self._printing else ()

    def capture(self) -> bool:
        """Take in what it printed; False where that is a flood."""
        while self._printing and not self.flooded:
            try:
                data = os.read(self._output, 1 << 16)
            except BlockingIOError:
                break
            self._printing = bool(data)
            self._written += len(data)
            self._captured += data[: max(0, self._limits.output - len(self._captured))]
        return not self.flooded

    def printed(self) -> str:
        """Return what it printed, as text."""
        return bytes(self._captured).decode("utf-8", "replace").strip()

    def flood(self) -> Outcome:
        """Return the outcome of a program that printed too much."""
        return Outcome("OUTPUT_FLOOD", None, f"more than {FLOOD * self._limits.output} bytes of output")

    def reported(self, frame: Frame) -> Outcome:
        """Return the failure that the program reported, or that its frame is."""
        if frame.tag != b"E":
            return Outcome("BAD_RESULT", None, "the program spoke out of turn")
        try:
            return reported(frame)
        except FrameError as error:
            return self.outcome(error)

    def outcome(self, error: FrameError) -> Outcome:
        """Return the outcome of a broken protocol."""
        return Outcome(cast("Status", error.status), None, str(error))

    def post_mortem(self, end: Exit) -> Outcome:
        """Return the outcome of a program that ended by itself."""
        return post_mortem(end, self._limits)

    def close(self) -> None:
        """Close the host's ends."""
        self.connection.close()
        os.close(self._output)
        self.shared.close()
