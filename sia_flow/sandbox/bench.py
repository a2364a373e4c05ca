"""Timed programs on one zygote: each is loaded once into a process of its own and called many times.

Invariant: a call is charged all the processor time of its process since the call before it, read by the zygote from
the kernel: from before the inputs lay there until after the result was taken. The program has no part in it.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from sia_flow.errors import InfrastructureError
from sia_flow.protocols import CallForm, Job, Limits, Outcome, TimedCall
from sia_flow.sandbox.frames import FrameError
from sia_flow.sandbox.link import Link, Meter, SandboxDied
from sia_flow.sandbox.timing import TimedRun

_START_SECONDS = 60.0
_EXIT_SECONDS = 15.0


class WarmBench:
    """Starts, calls and ends timed programs. One call runs at a time."""

    def __init__(self, link: Link, limits: Limits) -> None:
        self._link = link
        # One process and one thread, the candidate's own: what a helper computes would be on another account.
        self._limits = replace(limits, processes=1)
        self._runs: dict[int, TimedRun] = {}
        self._count = 0

    def start(self, job: Job, forms: Sequence[CallForm]) -> int:
        """Start a program and return its number. Raises InfrastructureError."""
        index, self._count = self._count, self._count + 1
        ours, theirs = socket.socketpair()
        output, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        ours.settimeout(_START_SECONDS)
        try:
            self._link.start(index, self._limits, theirs.fileno(), writer)
            self._runs[index] = TimedRun(job, forms, self._limits, ours, output)
            self._runs[index].introduce()
        except (SandboxDied, OSError) as error:
            raise InfrastructureError(f"a timed program could not be started: {error}") from error
        finally:
            theirs.close()
            os.close(writer)
        ours.setblocking(False)
        return index

    def call(self, program: int, form: int, inputs: Mapping[str, NDArray[Any]]) -> TimedCall | Outcome:
        """Call a program; see `sia_flow.protocols.Bench.call`."""
        run = self._runs[program]
        try:
            failure = None if run.ready else self._until(program, b"R")
            found = failure or self._timed(program, run, form, inputs)
        except SandboxDied as error:
            raise InfrastructureError(f"the sandbox failed under a timed program: {error}") from error
        if isinstance(found, Outcome):
            self.drop(program)
        return found

    def drop(self, program: int) -> None:
        """End a program and wait until it is gone."""
        run = self._runs.pop(program, None)
        if run is None:
            return
        try:
            self._kill(program, run)
        except SandboxDied as error:
            raise InfrastructureError(f"a timed program did not end: {error}") from error
        finally:
            run.close()

    def close(self) -> None:
        """End every program."""
        for program in list(self._runs):
            self.drop(program)

    def _timed(self, program: int, run: TimedRun, form: int, inputs: Mapping[str, NDArray[Any]]) -> TimedCall | Outcome:
        before = run.last or self._link.meter(program)
        if before is None:
            return self._ended(program, run)
        run.shared.write(form, inputs)
        start = time.monotonic()
        run.go(form)
        failure = self._until(program, b"D")
        wall = time.monotonic() - start
        # The copy comes first: what the program still computes after it changes nothing.
        output = run.shared.result(form)
        after = None if failure else self._link.meter(program)
        if failure or after is None:
            return failure or self._ended(program, run)
        run.last = after
        return TimedCall(output, after.cpu - before.cpu, _idle(before, after, wall), after.helpers)

    def _until(self, program: int, tag: bytes) -> Outcome | None:
        """Wait for a frame; return how the program failed where it does not come."""
        run = self._runs[program]
        deadline = time.monotonic() + (self._limits.wall if run.started else _START_SECONDS)
        while True:
            try:
                frame = run.next()
            except FrameError as error:
                return run.outcome(error)
            if frame is None:
                left = deadline - time.monotonic()
                if run.closed or run.over or not self._wait(run, left):
                    return self._silent(program, run)
            elif frame.tag == b"S":
                run.started = True
                deadline = time.monotonic() + self._limits.wall
            elif frame.tag == tag:
                run.ready = True
                return None
            else:
                return run.reported(frame)

    def _wait(self, run: TimedRun, left: float) -> bool:
        """Wait for a word of the program or its end; False where its time is up."""
        if left <= 0:
            return False
        poll = select.poll()
        for handle in (run.connection.fileno(), self._link.control.fileno(), *run.printing()):
            poll.register(handle, select.POLLIN)
        poll.poll(min(left, 1.0) * 1000)
        self._collect()
        return run.capture()

    def _collect(self) -> None:
        for end in self._link.exits():
            if end.job in self._runs:
                self._runs[end.job].over = end

    def _silent(self, program: int, run: TimedRun) -> Outcome:
        """Return the outcome of a program that says nothing: it ended, flooded its output, or its time is up."""
        if run.flooded:
            return run.flood()
        if run.closed or run.over:
            return self._ended(program, run)
        if not run.started:
            raise SandboxDied("a job did not start")
        return Outcome("TIMEOUT", None, f"more than {self._limits.wall:g} seconds for one call")

    def _ended(self, program: int, run: TimedRun) -> Outcome:
        self._kill(program, run)
        assert run.over is not None
        if not run.started:
            raise SandboxDied(f"a job could not be confined: {run.printed()}")
        return run.post_mortem(run.over)

    def _kill(self, program: int, run: TimedRun) -> None:
        """Let a program end that hung up, kill it where it does not, and wait for its exit."""
        if run.over is None and not run.closed:
            self._link.kill(program)
        start = time.monotonic()
        while run.over is None:
            waited = time.monotonic() - start
            if waited > _EXIT_SECONDS:
                raise SandboxDied("a killed job did not end")
            if run.closed and waited > 1.0:
                self._link.kill(program)
            poll = select.poll()
            poll.register(self._link.control, select.POLLIN)
            poll.poll(500)
            run.capture()
            for end in self._link.exits():
                if end.job == program:
                    run.over = end
                elif end.job in self._runs:
                    self._runs[end.job].over = end


def _idle(before: Meter, after: Meter, wall: float) -> float:
    """Return the time of a call in which its process neither ran nor waited for a processor.

    What the host is late by to see the end of the call is in it.
    """
    return max(0.0, wall - (after.cpu - before.cpu) - (after.delay - before.delay))
