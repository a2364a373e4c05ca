"""The host's hold on a verifier's process: start it, ask it one thing at a time, be told how it ended.

Invariants: the process is gone when it is closed, when whoever holds it lets go, and when the host is killed; what it
says is bounded and checked before it is believed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sia_flow.apart import start_apart
from sia_flow.canonical import canonical_json
from sia_flow.sandbox.backends import HERE
from sia_flow.verify.apart import ground
from sia_flow.verify.apart.wire import PARTS, SMALL, Message, Room, WireError, pack, unpack

_BEGIN = "import sys; sys.path.insert(0, sys.argv[1]); from inside.verifier import main; main()"
LOOK = 0.5
"""Seconds between two looks at the clock."""
PATIENCE = 10
"""How many times its limit of processor time a request may take by the wall clock: load is nobody's fault."""
SAID = 4000
"""Bytes kept of what the process wrote."""
_TICK = os.sysconf("SC_CLK_TCK")


Request = tuple[Mapping[str, Any], Sequence[NDArray[Any]]]
Answer = Callable[[Message], Mapping[str, Any]]


class Ended(Exception):  # noqa: N818 - the holder starts another
    """The process is gone, or no longer speaks as it should."""


class Late(Exception):  # noqa: N818 - the holder starts another
    """The process did not answer in time."""


class Process:
    """A verifier's process, just started; its first message is `hear(seconds)`."""

    def __init__(self, orders: Mapping[str, Any], root: Path, task: str, data: Path, memory: int) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="sia-flow-verifier-"))
        self._connection, inner = socket.socketpair()
        self._said = b""
        self._owed = 0
        self._refused: WireError | None = None
        self._room = _room()
        handles = [inner.fileno(), *([self._room.handle] if self._room else [])]
        with inner:
            self._process = _starter(os.getpid())(lambda: _start(handles, self._scratch))
        assert self._process.stderr is not None
        self._errors = self._process.stderr
        os.set_blocking(self._errors.fileno(), False)
        self._connection.setblocking(False)
        self._end = weakref.finalize(
            self, _end, self._process, (self._connection, self._room), self._scratch, os.getpid()
        )
        self.pid = self._process.pid
        first = {**ground.orders(root, task, data, self._scratch), **orders, "host": os.getpid()}
        first |= {"memory": memory, "room": self._room.handle if self._room else None}
        text = canonical_json(first)
        self._send([memoryview(struct.pack("=I", len(text)) + text)], time.monotonic() + 60)

    def ask(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]], seconds: float, answer: Answer) -> Message:
        """Ask something and return the reply; `answer` answers what the verifier asks meanwhile.

        `seconds` are of processor time. Raises Ended, Late, and WireError for what cannot be asked at all.
        """
        return next(self.ask_all([(header, arrays)], seconds, answer))

    def ask_all(self, requests: Iterable[Request], seconds: float, answer: Answer) -> Iterator[Message]:
        """Ask several things and yield the replies, in order; each is on its way before the last one is answered.

        See `ask`; a generator that is left before its end leaves a process that must be closed.
        """
        left, parts, more = iter(requests), None, True
        while more or self._owed:
            # Not sooner: to make a message is to write to the room, whose parts may both be read until then.
            if more and parts is None and self._owed < PARTS:
                parts = self._next(left)
                more = parts is not None
            # What a pipe cannot hold would wait for a process that may be waiting for this one.
            if parts is not None and (not self._owed or sum(map(len, parts)) <= SMALL):
                self._owed += 1
                self._send(parts, time.monotonic() + PATIENCE * seconds)
                parts = None
                if self._owed < PARTS:
                    continue
            if self._owed:
                reply = self._reply(_Clock(self.pid, seconds), answer)
                self._owed -= 1
                yield reply
        if self._refused is not None:
            raise self._refused

    @property
    def idle(self) -> bool:
        """Whether every question has its answer."""
        return not self._owed

    def _next(self, requests: Iterator[Request]) -> list[memoryview] | None:
        """Return the next request's message; none at the end, and where one cannot be asked: its turn comes later."""
        self._refused = None
        request = next(requests, None)
        try:
            return None if request is None else pack(*request, self._room)
        except WireError as error:
            self._refused = error
            return None

    def _reply(self, clock: _Clock, answer: Answer) -> Message:
        while True:
            message = self.hear(clock)
            if "ask" not in message.header:
                return message
            before = time.monotonic()
            parts = pack(answer(message))
            clock.deadline += time.monotonic() - before
            self._send(parts, clock.deadline)

    def hear(self, clock: _Clock | float) -> Message:
        """Return the next message. Raises Ended, Late."""
        limit = _Clock(self.pid, clock) if isinstance(clock, float) else clock
        try:
            return unpack(lambda view: self._fill(view, limit))
        except WireError as error:
            raise Ended(f"its process sent {error}") from error

    def close(self) -> None:
        """Kill the process and wait until it is gone. May be called twice."""
        self._drain()
        self._errors.close()
        self._end()

    def last_words(self) -> str:
        """Return how the process ended, and the end of what it wrote."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._drain()
        code = self._process.returncode
        how = "it fell silent" if code is None else f"exit code {code}" if code >= 0 else _name(-code)
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").splitlines() if line.strip()]
        dumped = next((number for number, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
        if dumped is None:
            text = "; ".join(lines[-4:])
        else:
            # The innermost frame comes first.
            text = "; ".join([lines[dumped], *[line for line in lines[dumped:] if line.startswith("File ")][:1]])
        return f"{how}: {''.join(c if c.isprintable() else ' ' for c in text)}"[:500] if text else how

    def _fill(self, view: memoryview, clock: _Clock) -> None:
        done = 0
        while done < len(view):
            try:
                count = self._connection.recv_into(view[done:])
            except BlockingIOError:
                self._wait(select.POLLIN, clock)
                continue
            except OSError as error:
                raise Ended(self.last_words()) from error
            if not count:
                raise Ended(self.last_words())
            done += count

    def _send(self, parts: Sequence[memoryview], deadline: float) -> None:
        clock = _Clock(self.pid, 0.0, deadline)
        for part in parts:
            sent = 0
            while sent < len(part):
                try:
                    sent += self._connection.send(part[sent:])
                except BlockingIOError:
                    self._wait(select.POLLOUT, clock)
                except OSError as error:
                    raise Ended(self.last_words()) from error

    def _wait(self, event: int, clock: _Clock) -> None:
        """Wait until the connection is ready, or a while. Raises Late."""
        poll = select.poll()
        poll.register(self._connection, event)
        poll.register(self._errors, select.POLLIN)
        if not poll.poll(LOOK * 1000):
            clock.check()
        self._drain()

    def _drain(self) -> None:
        """Take what the process wrote, lest it waits for ever to write more."""
        with contextlib.suppress(OSError, ValueError):
            while data := self._errors.read(1 << 16):
                self._said = (self._said + data)[-SAID:]


class _Clock:
    """Tells when one request has taken too long: by its processor time, and far later by the wall clock."""

    def __init__(self, pid: int, seconds: float, deadline: float | None = None) -> None:
        self._pid = pid
        self._seconds = seconds
        self._from: float | None = None
        self._started = time.monotonic()
        self.deadline = self._started + PATIENCE * seconds if deadline is None else deadline

    def check(self) -> None:
        """Raise Late where it is over. Called every now and then."""
        now, used = time.monotonic(), _used(self._pid)
        if self._from is None:
            # Reading it at each request would cost more than many a verdict does.
            self._from = used
        # Several threads use up processor time faster than the clock on the wall runs.
        spent = self._seconds and min(used - self._from, now - self._started) > self._seconds
        if spent or now > self.deadline:
            raise Late


def _used(pid: int) -> float:
    """Return the processor time of a process, all threads together; seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


@functools.cache
def _starter(host: int) -> Callable[[Callable[[], subprocess.Popen[bytes]]], subprocess.Popen[bytes]]:
    """Return what starts processes from a thread that stays: a child dies with the thread that started it."""
    del host
    waiting: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
    waiting = queue.SimpleQueue()

    def work() -> None:
        while True:
            start, told = waiting.get()
            try:
                told.set_result(start())
            except BaseException as error:  # noqa: BLE001 - raised where the process was asked for
                told.set_exception(error)
            del start, told

    def begin(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        told: Future[subprocess.Popen[bytes]] = Future()
        waiting.put((start, told))
        return told.result()

    threading.Thread(target=work, name="starter of verifiers", daemon=True).start()
    return begin


def _start(handles: Sequence[int], scratch: Path) -> subprocess.Popen[bytes]:
    # -I and not -S: packages under development may be found by hooks of their own.
    return start_apart(
        [sys.executable, "-I", "-B", "-c", _BEGIN, str(HERE), str(handles[0])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=ground.environment(scratch),
        pass_fds=handles,
        cwd=scratch,
        bufsize=0,
    )


def _room() -> Room | None:
    """Return memory to share; None where files may not be as large: then arrays go through the connection."""
    try:
        return Room()
    except OSError:
        return None


def _end(
    process: subprocess.Popen[bytes], held: Sequence[socket.socket | Room | None], scratch: Path, host: int
) -> None:
    """End a process and all that was made for it; a fork of the host only lets go of it."""
    for one in held:
        if one is not None:
            one.close()
    if os.getpid() != host:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    shutil.rmtree(scratch, ignore_errors=True)


def _name(number: int) -> str:
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"
