"""The host's hold on one zygote: its keeper process and its control socket.

Invariant: after `stop` nothing that this link started is alive. The zygote never runs a candidate, yet its
messages are parsed as strictly as a candidate's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, Any

from sia_flow.apart import start_apart
from sia_flow.errors import InfrastructureError
from sia_flow.protocols import Image, Limits
from sia_flow.sandbox import cgroups, packing
from sia_flow.sandbox.backends import CHARGEABLE, HERE, Backend, plan, view
from sia_flow.sandbox.inside import confine
from sia_flow.sandbox.strict_json import HostileJsonError, parse

_KEEPER = "import sys; sys.path.insert(0, sys.argv[1]); from inside.keeper import main; main()"
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_MESSAGE_CAP = 1 << 16
SCRATCH = 2 * confine.SCRATCH
"""Bytes that a job's files in memory may hold, beside what its processes may."""


class SandboxDied(Exception):  # noqa: N818 - caught by the session, which starts another
    """The zygote or its keeper is gone or does not answer."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a job's process ended, as the zygote saw it."""

    job: int
    code: int
    """Exit code, or the negative number of the signal."""
    cpu: float
    memory: bool
    """Whether it was killed for the memory of its whole process tree, by the kernel or by the zygote."""


@dataclass(frozen=True, slots=True)
class Meter:
    """What a job's process had used when the zygote looked; seconds."""

    cpu: float
    """On a processor, all threads together."""
    delay: float
    """Ready to run, waiting for a processor."""
    helpers: int
    """Threads and processes beside its first thread."""


class Link:
    """A started zygote. Raises InfrastructureError when it cannot start, SandboxDied when it falls silent."""

    def __init__(self, backend: Backend, image: Image) -> None:
        self._errors = os.memfd_create("errors", os.MFD_CLOEXEC)
        self._ended: list[Exit] = []
        base = cgroups.delegated() if backend in CHARGEABLE else None
        self.cgroups = cgroups.Pool(base) if base else None
        """Where the kernel charges each job; none where no cgroup was delegated."""
        self.control, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with inner:
                orders = plan(backend, inner.fileno(), image)
                orders["cgroup"] = str(self.cgroups.folder) if self.cgroups else None
                self._keeper = self._spawn(orders, inner.fileno())
            self.pid = self._hear_keeper()
            self._send_image(image, view(backend, image))
            hello = self._hello()
        except BaseException:
            self.stop()
            raise
        self.nested: bool = hello["nested"]
        self.scoped: bool = hello["scoped"]
        if self.cgroups:
            self.cgroups.room = hello["resident"] + SCRATCH
        self.control.setblocking(False)

    def start(self, job: int, limits: Limits, connection: int, output: int) -> None:
        """Fork a job on these descriptors."""
        order = {
            "start": job,
            "cpu": limits.cpu,
            "memory": limits.memory,
            "processes": limits.processes,
            "file_size": limits.file_size,
        }
        group = [self.cgroups.take(job, limits)] if self.cgroups else []
        self._tell(order, [connection, output, *group])

    def kill(self, job: int) -> None:
        """Kill a job and all that it started; its exit is reported like any other."""
        self._tell({"kill": job}, [])

    def exits(self) -> list[Exit]:
        """Return the exits that have been reported since the last call. Raises SandboxDied."""
        while (report := self._report()) is not None:
            self._note(report)
        found, self._ended = self._ended, []
        return found

    def meter(self, job: int) -> Meter | None:
        """Return what a job's process has used so far; None where it has ended. Raises SandboxDied."""
        self._tell({"meter": job}, [])
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            report = self._report()
            if report is None:
                _ready(self.control, select.POLLIN, 0.1)
            elif report.get("meter") == job:
                gone = report["cpu"] < 0
                return None if gone else _meter(report)
            else:
                self._note(report)
        raise SandboxDied("the zygote does not say what a job has used")

    def _report(self) -> dict[str, Any] | None:
        """Return the zygote's next message, None where there is none yet."""
        try:
            message = self.control.recv(_MESSAGE_CAP)
        except BlockingIOError:
            return None
        except OSError as error:
            raise SandboxDied(str(error)) from error
        if not message:
            raise SandboxDied(self._last_words())
        return _read(message)

    def _note(self, report: dict[str, Any]) -> None:
        """Keep an exit; the answer to a question that was given up is dropped."""
        if "code" in report:
            job = report["job"]
            charged = self.cgroups is not None and self.cgroups.give_back(job)
            self._ended.append(Exit(job, report["code"], report["cpu"], report["memory"] or charged))

    def stop(self) -> None:
        """Kill everything and wait until it is gone. May be called twice."""
        self.control.close()
        keeper = getattr(self, "_keeper", None)
        if keeper is not None:
            _end(keeper)
        if self.cgroups:
            self.cgroups.close()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1

    def _spawn(self, orders: dict[str, object], control: int) -> subprocess.Popen[bytes]:
        host = os.pidfd_open(os.getpid())
        try:
            text = json.dumps({**orders, "host": host}).encode()
            keeper = start_apart(
                [sys.executable, "-I", "-S", "-B", "-c", _KEEPER, str(HERE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={"LANG": "C.UTF-8"},
                pass_fds=[control, host],
                cwd="/",
                bufsize=0,
            )
        finally:
            os.close(host)
        assert keeper.stdin is not None
        # One that has ended already says why where it is heard.
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(struct.pack("=I", len(text)) + text)
        return keeper

    def _hear_keeper(self) -> int:
        assert self._keeper.stdout is not None
        heard = _ready(self._keeper.stdout, select.POLLIN, _START_SECONDS)
        line = self._keeper.stdout.readline() if heard else b""
        try:
            report = json.loads(line)
        except ValueError as error:
            raise InfrastructureError(f"the sandbox's keeper did not start: {self._last_words()}") from error
        if "error" in report:
            raise InfrastructureError(f"the sandbox could not be set up: {report['error']}")
        pid: int = report["pid"]
        return pid

    def _send_image(self, image: Image, shown: dict[str, object]) -> None:
        packed = packing.pack(image, shown)
        try:
            socket.send_fds(self.control, [packed.header], [packed.handle])
        except OSError as error:
            raise InfrastructureError(f"the sandbox did not start: {self._last_words()}") from error
        finally:
            os.close(packed.handle)

    def _hello(self) -> dict[str, Any]:
        self.control.settimeout(_START_SECONDS)
        try:
            message = self.control.recv(_MESSAGE_CAP)
        except OSError as error:
            raise InfrastructureError(f"the sandbox did not start: {self._last_words()}") from error
        if not message:
            raise InfrastructureError(f"the sandbox did not start: {self._last_words()}")
        hello = _read(message)
        if "failed" in hello:
            raise InfrastructureError(f"the image cannot be loaded in the sandbox: {hello['failed']}")
        return hello

    def _tell(self, order: dict[str, float], handles: list[int]) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        data = json.dumps(order).encode()
        while time.monotonic() < deadline:
            try:
                socket.send_fds(self.control, [data], handles)
            except BlockingIOError:
                _ready(self.control, select.POLLOUT, 0.1)
            except OSError as error:
                raise SandboxDied(f"{error}: {self._last_words()}") from error
            else:
                return
        raise SandboxDied("the zygote takes no orders")

    def _last_words(self) -> str:
        """Return the end of what keeper, bubblewrap and zygote wrote to stderr, once they have ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(2)
        size = os.fstat(self._errors).st_size
        text = os.pread(self._errors, 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
        return text or "it ended without a word"


def _ready(thing: socket.socket | IO[bytes], event: int, seconds: float) -> bool:
    """Wait for a descriptor; with poll, since select ends at descriptor 1024."""
    poll = select.poll()
    poll.register(thing, event)
    return bool(poll.poll(seconds * 1000))


def _read(message: bytes) -> dict[str, Any]:
    try:
        value = parse(message)
    except HostileJsonError as error:
        raise SandboxDied(f"the zygote sent what is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SandboxDied("the zygote sent no object")
    return value


def _meter(report: dict[str, Any]) -> Meter:
    return Meter(report["cpu"] * 1e-9, report["delay"] * 1e-9, report["helpers"])


def _end(keeper: subprocess.Popen[bytes]) -> None:
    """Close the keeper's life line and wait for it; its own death kills what it holds."""
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    with contextlib.suppress(OSError):
        keeper.stdin.close()
    try:
        keeper.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
    keeper.stdout.close()
