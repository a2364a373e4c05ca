"""One running job, as the host sees it: its socket, its captured output, its clock, and how it ends.

Invariant: a job's outcome follows from what it sent and how it died, never from an exit code alone. Its wall
clock runs from its first frame and stands still while it waits for the host; each round may take the limit,
all rounds together ten times as much.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sia_flow.protocols import Call, Job, Limits, Outcome, Status
from sia_flow.sandbox.compiled import compiled
from sia_flow.sandbox.frames import Frame, FrameError, FrameReader
from sia_flow.sandbox.link import Exit
from sia_flow.sandbox.seats import Seat
from sia_flow.sandbox.strict_json import Caps, HostileJsonError, parse

CALL_CAP = 256 << 10
TEXT_CAP = 64 << 10
ERROR_FRAME_CAP = 8 << 10
_ERROR_CAP = 500
FLOOD = 16
_CALLS = 1000
_ROUNDS = 10
_METHOD = re.compile(r"generate|fetch|tool:[A-Za-z_][A-Za-z0-9_]{0,63}")
REPORTED = ("SYNTAX", "EXCEPTION", "BAD_RESULT", "BAD_SHAPE", "MEMORY", "RESULT_TOO_BIG")
_GRACE_SECONDS = 1.0


class Running:
    """State of one job between its fork and its outcome."""

    def __init__(self, index: int, job: Job, limits: Limits, seat: Seat) -> None:
        self.index = index
        self.job = job
        self.seat = seat
        self.connection = seat.connection
        self.output = seat.output
        self.outbox = bytearray()
        self.call: Call | None = None
        self.calls = 0
        self.started = False
        self.deadline: float | None = None
        """Monotonic time at which it is killed; none before its first frame and while it waits."""
        self.result: Outcome | None = None
        self._limits = limits
        self._since = 0.0
        self._ran = 0.0
        self._captured = bytearray()
        self._written = 0
        self._reader = _reader(job, seat.connection)
        self._put(request_of(job))

    @property
    def waiting(self) -> bool:
        """Whether the job stands still until the host answers it."""
        return self.call is not None

    def read(self) -> bool:
        """Take in what the job sent, up to its next call or its result; False when the socket has closed."""
        try:
            while self.result is None and self.call is None:
                frame = self._reader.next()
                if frame is None:
                    return not self._reader.closed
                self._take(frame)
        except FrameError as error:
            self.fail(cast("Status", error.status), str(error))
        return True

    def capture(self) -> bool:
        """Take in captured output; False when there is none now or ever. A flood ends the job."""
        try:
            data = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return False
        self._written += len(data)
        room = self._limits.output - len(self._captured)
        self._captured += data[: max(0, room)]
        if self.flooded:
            self.fail("OUTPUT_FLOOD", f"more than {FLOOD * self._limits.output} bytes of output")
        return bool(data)

    @property
    def flooded(self) -> bool:
        """Whether it wrote more than is read."""
        return self._written > FLOOD * self._limits.output

    def answer(self, value: Any) -> None:
        """Answer the call that the job waits for; an Exception is raised inside the job."""
        message = {"error": str(value)[:2000]} if isinstance(value, Exception) else {"ok": value}
        self._put(message)
        self.call = None
        self._run_clock()

    def flush(self) -> None:
        """Send what fits of the outbox."""
        try:
            count = self.connection.send(self.outbox)
        except BlockingIOError:
            return
        except OSError:
            # The job hung up; its exit says why.
            count = len(self.outbox)
        del self.outbox[:count]

    def fail(self, status: Status, error: str) -> None:
        """Decide the outcome, unless it is decided; the process has to go at once."""
        if self.result is None:
            self.result = Outcome(status, None, error)
        self.deadline = 0.0

    def outcome(self, end: Exit) -> Outcome:
        """Return the outcome of an ended job."""
        result = self.result or post_mortem(end, self._limits)
        text = bytes(self._captured).decode("utf-8", "replace")
        return Outcome(result.status, result.value, result.error, text, end.cpu)

    def close(self) -> None:
        """Close the host's ends."""
        self.seat.close()

    def _take(self, frame: Frame) -> None:
        if frame.tag == b"S" and not self.started:
            self.started = True
            self._run_clock()
        elif frame.tag == b"S":
            raise FrameError("BAD_RESULT", "the job said twice that it started")
        elif frame.tag == b"C":
            self._take_call(frame.body)
        else:
            self.result = self._result(frame)
            self.deadline = time.monotonic() + _GRACE_SECONDS

    def _take_call(self, body: bytearray) -> None:
        self.calls += 1
        if self.calls > _CALLS:
            raise FrameError("TIMEOUT", f"more than {_CALLS} calls of the host")
        message = _object(body, Caps(CALL_CAP))
        method, params = message.get("method"), message.get("params")
        if not isinstance(method, str) or not _METHOD.fullmatch(method) or not isinstance(params, dict):
            raise FrameError("BAD_RESULT", "the job called no method of the protocol")
        self.call = Call(self.index, method, params)
        self._ran += time.monotonic() - self._since
        self.deadline = None

    def _run_clock(self) -> None:
        """Let the clock run: `wall` seconds for this round, and so many rounds' worth in all."""
        self._since = time.monotonic()
        left = _ROUNDS * self._limits.wall - self._ran
        self.deadline = self._since + min(self._limits.wall, max(0.0, left))

    def _result(self, frame: Frame) -> Outcome:
        if frame.tag == b"A":
            return Outcome("OK", self._array(frame.body))
        if frame.tag == b"T":
            try:
                return Outcome("OK", frame.body.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise FrameError("BAD_RESULT", "the answer is not UTF-8") from error
        return reported(frame)

    def _array(self, body: bytearray) -> NDArray[np.float64]:
        assert self.job.returns is not None
        return np.frombuffer(body, dtype=np.float64).reshape(self.job.returns.shape)

    def _put(self, message: Mapping[str, Any]) -> None:
        self.outbox += encode(message)


def post_mortem(end: Exit, limits: Limits) -> Outcome:
    """Return the outcome of a job that ended without a result, by how it died."""
    if end.memory:
        return Outcome("MEMORY", None, f"its processes held more than {limits.memory} bytes")
    # The kernel enforces by clock ticks and reports by run time; under load they differ.
    if end.code == -signal.SIGKILL and end.cpu >= 0.5 * limits.cpu:
        return Outcome("CPU", None, f"more than {limits.cpu:g} seconds of processor time")
    if end.code < 0:
        return Outcome("SIGNAL", None, f"killed by signal {-end.code}")
    if end.code == 0:
        return Outcome("BAD_RESULT", None, "it ended without a result")
    return Outcome("NONZERO", None, f"it ended with exit code {end.code} and no result")


def reported(frame: Frame) -> Outcome:
    """Return the failure that a job reported of itself. Raises FrameError where it is none that is known."""
    message = _object(frame.body, Caps(ERROR_FRAME_CAP))
    status, error_text = message.get("status"), message.get("error")
    if status not in REPORTED or not isinstance(error_text, str):
        raise FrameError("BAD_RESULT", "the job reported no known failure")
    return Outcome(cast("Status", status), None, clean(error_text))


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a frame to a job: u32 length, JSON."""
    data = json.dumps(message).encode()
    return struct.pack("=I", len(data)) + data


def request_of(job: Job) -> dict[str, Any]:
    """Return what the job's process is told: everything but the arrays, which it has already."""
    return {
        "source": job.source,
        "files": dict(job.files),
        "code": _code(job),
        "entry": job.entry,
        "arrays": list(job.arrays),
        "arguments": list(job.arguments),
        "instance": job.instance,
        "seed": job.seed,
        "shape": None if job.returns is None else list(job.returns.shape),
        "forms": None,
    }


def _code(job: Job) -> dict[str, str]:
    texts = {"candidate": job.source, **{name.removesuffix(".py"): text for name, text in job.files.items()}}
    found = {name: compiled(name, text) for name, text in texts.items()}
    return {name: code for name, code in found.items() if code is not None}


def clean(text: str) -> str:
    """Return hostile text without control characters and bounded, fit for a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)[:_ERROR_CAP]


def _reader(job: Job, connection: socket.socket) -> FrameReader:
    """Return a reader that takes only what this kind of job may send."""
    if job.returns is None:
        return FrameReader(connection, {b"C": CALL_CAP, b"T": TEXT_CAP, b"E": ERROR_FRAME_CAP}, {b"S": 0})
    size = 8 * math.prod(job.returns.shape)
    return FrameReader(connection, {b"E": ERROR_FRAME_CAP}, {b"S": 0, b"A": size})


def _object(body: bytearray, caps: Caps) -> dict[str, Any]:
    try:
        value = parse(bytes(body), caps)
    except HostileJsonError as error:
        raise FrameError("BAD_RESULT", f"the job sent bad JSON: {error}") from error
    if not isinstance(value, dict):
        raise FrameError("BAD_RESULT", "the job sent JSON that is no object")
    return value
