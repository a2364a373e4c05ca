"""Processes of one zygote that jobs run in, some of them forked and confined before their job is known.

Invariant: a seat is taken by one job, and holds nothing but what every fork of the clean zygote holds, so a job cannot
tell whether its seat was waiting for it.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from dataclasses import dataclass

from sia_flow.protocols import Limits
from sia_flow.sandbox.link import Exit, Link, SandboxDied

WAITING = 128
"""Seats that wait for jobs, at most."""
_FIRST = 1 << 32
"""Number of the first seat; smaller ones are the benches'."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A confined process and the host's ends of its socket and of its output; both do not block."""

    number: int
    connection: socket.socket
    output: int

    def close(self) -> None:
        """Close the host's ends."""
        self.connection.close()
        os.close(self.output)


class Seats:
    """Forks seats, ahead of need where it is told to. Raises SandboxDied like its link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._next = _FIRST
        self._limits: Limits | None = None
        self._waiting: deque[Seat] = deque()

    def take(self, limits: Limits) -> Seat:
        """Return a seat under these limits, one that waits if there is any."""
        self._keep(limits)
        return self._waiting.popleft() if self._waiting else self._fork(limits)

    def prepare(self, limits: Limits, count: int) -> None:
        """Have up to `count` seats wait; the zygote forks them while the host does something else.

        Without namespaces for each job nothing is forked ahead: the kernel would count the waiting processes against
        those that a running job may start.
        """
        if not self.link.nested:
            return
        self._keep(limits)
        while len(self._waiting) < min(count, WAITING):
            self._waiting.append(self._fork(limits))

    def check(self, end: Exit) -> None:
        """Raise SandboxDied where a seat ended that still waited."""
        if any(seat.number == end.job for seat in self._waiting):
            raise SandboxDied(f"a job could not be confined (exit code {end.code})")

    def close(self) -> None:
        """Close the host's ends; the processes end with their zygote."""
        while self._waiting:
            self._waiting.pop().close()

    def _keep(self, limits: Limits) -> None:
        """Let go of seats that wait under other limits."""
        if limits != self._limits:
            for seat in self._waiting:
                self.link.kill(seat.number)
            self.close()
            self._limits = limits

    def _fork(self, limits: Limits) -> Seat:
        ours, theirs = socket.socketpair()
        output, writer = os.pipe2(os.O_CLOEXEC)
        ours.setblocking(False)
        os.set_blocking(output, False)
        seat = Seat(self._next, ours, output)
        self._next += 1
        try:
            self.link.start(seat.number, limits, theirs.fileno(), writer)
        except BaseException:
            seat.close()
            raise
        finally:
            theirs.close()
            os.close(writer)
        return seat
