"""Runs the jobs of one batch on one zygote: forks, clocks, captured output, and the scaffolds' calls, in lockstep
rounds or each as it comes.

Invariant: a round begins only when every live job waits and no further job can be started, and its calls
stand in job order; so what `serve` sees in rounds does not depend on timing.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sia_flow.protocols import Call, Job, Limits, Outcome
from sia_flow.sandbox.desk import Desk, Serve
from sia_flow.sandbox.link import Exit, SandboxDied
from sia_flow.sandbox.running import Running
from sia_flow.sandbox.seats import Seats

SCAFFOLDS = 256
"""Scaffold processes alive at once; they mostly wait."""
_START_SECONDS = 60.0
_EXIT_SECONDS = 15.0


@dataclass(slots=True)
class Ledger:
    """What survives a restart of the sandbox: finished outcomes, and answers that were already given."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    answers: dict[int, list[tuple[Call, Any]]] = field(default_factory=dict)

    def replay(self, call: Call, number: int) -> tuple[Any] | None:
        """Return the answer that the job's call of this number got before, if it is the same call."""
        given = self.answers.get(call.job, [])
        if number < len(given) and given[number][0] == call:
            return (given[number][1],)
        return None

    def record(self, call: Call, number: int, answer: Any) -> None:
        """Keep an answer."""
        given = self.answers.setdefault(call.job, [])
        del given[number:]
        given.append((call, answer))


class Batch:
    """One run over the jobs that the ledger has no outcome for."""

    def __init__(
        self,
        seats: Seats,
        jobs: Sequence[Job],
        limits: Limits,
        lanes: int,
        host: tuple[Serve | None, int],
        ledger: Ledger,
    ) -> None:
        """Prepare a run; `host` is who answers calls, and how many at once: 0 for rounds."""
        self._seats = seats
        self._link = seats.link
        self._jobs = jobs
        self._limits = limits
        self._lanes = lanes
        self._serve, at_once = host
        self._desk = Desk(self._serve, at_once) if self._serve is not None and at_once else None
        self._asked: set[int] = set()
        self._ledger = ledger
        self._pending = [index for index in range(len(jobs)) if index not in ledger.outcomes][::-1]
        self._live: dict[int, Running] = {}
        self._numbers: dict[int, int] = {}
        self._ahead = min(len(self._pending), lanes)
        self._since: dict[int, float] = {}
        self._dying: dict[int, float] = {}
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Run until every job has an outcome in the ledger. Raises SandboxDied and what `serve` raises."""
        self._selector.register(self._link.control, selectors.EVENT_READ, self._bury)
        if self._desk is not None:
            self._selector.register(self._desk.bell, selectors.EVENT_READ, self._hand_out)
        try:
            while self._pending or self._live:
                self._fill()
                self._round()
                for key, events in self._selector.select(self._patience()):
                    key.data(events)
                self._enforce()
        finally:
            for call, answer in self._desk.close() if self._desk is not None else ():
                self._record(call, answer)
            for running in self._live.values():
                running.close()
            self._selector.close()

    def _fill(self) -> None:
        while self._pending and len(self._live) < self._lanes:
            index = self._pending.pop()
            seat = self._seats.take(self._limits)
            running = Running(index, self._jobs[index], self._limits, seat)
            self._live[index] = running
            self._numbers[seat.number] = index
            self._since[index] = time.monotonic()
            self._selector.register(seat.output, selectors.EVENT_READ, lambda _, one=running: self._capture(one))
            self._selector.register(
                seat.connection,
                selectors.EVENT_READ | selectors.EVENT_WRITE,
                lambda events, one=running: self._exchange(one, events),
            )

    def _exchange(self, running: Running, events: int) -> None:
        if running.index not in self._live:
            return
        if events & selectors.EVENT_WRITE and running.outbox:
            running.flush()
        if events & selectors.EVENT_READ and not running.read():
            self._forget(running.connection)
            return
        self._replay(running)
        self._ask_at_once(running)
        self._interest(running)

    def _ask_at_once(self, running: Running) -> None:
        """Hand a call to the desk, once, where there is one."""
        if self._desk is None or running.call is None or running.index in self._asked:
            return
        if not self._pending:
            self._fork_ahead()
        self._asked.add(running.index)
        self._desk.ask(running.call)

    def _hand_out(self, _: int) -> None:
        """Give the jobs what the desk has answered; a job may have ended meanwhile."""
        assert self._desk is not None
        for call, answer in self._desk.answers():
            running = self._record(call, answer)
            if running is not None:
                running.answer(answer)
                self._interest(running)

    def _record(self, call: Call, answer: Any) -> Running | None:
        """Keep the desk's answer for the job that waits for it, and return that; None where it has ended."""
        running = self._live.get(call.job)
        if running is None or running.call is not call:
            return None
        self._asked.discard(call.job)
        self._ledger.record(call, running.calls - 1, answer)
        return running

    def _interest(self, running: Running) -> None:
        """Listen to a job that is not waiting, and write to one that is owed something."""
        wanted = selectors.EVENT_WRITE if running.outbox else 0
        if not running.waiting and running.result is None:
            wanted |= selectors.EVENT_READ
        registered = running.connection in self._selector.get_map()
        if registered and wanted:
            self._selector.modify(running.connection, wanted, self._selector.get_key(running.connection).data)
        elif registered:
            self._selector.unregister(running.connection)
        elif wanted:
            self._selector.register(running.connection, wanted, lambda events, one=running: self._exchange(one, events))

    def _capture(self, running: Running) -> None:
        if running.index in self._live and not running.capture():
            self._forget(running.output)

    def _forget(self, thing: socket.socket | int) -> None:
        if thing in self._selector.get_map():
            self._selector.unregister(thing)

    def _replay(self, running: Running) -> None:
        if running.call is None:
            return
        known = self._ledger.replay(running.call, running.calls - 1)
        if known is not None:
            running.answer(known[0])

    def _round(self) -> None:
        """Let the host answer, when every live job waits for it."""
        if self._desk is not None or not self._live or not all(running.waiting for running in self._live.values()):
            return
        self._fork_ahead()
        waiting = [self._live[index] for index in sorted(self._live)]
        calls = [running.call for running in waiting if running.call is not None]
        answers = self._ask(calls)
        for running, call, answer in zip(waiting, calls, answers, strict=True):
            self._ledger.record(call, running.calls - 1, answer)
            running.answer(answer)
            self._interest(running)

    def _fork_ahead(self) -> None:
        """Let the zygote fork for the batch after this one while the host is busy with its first round."""
        self._seats.prepare(self._limits, self._ahead)
        self._ahead = 0

    def _ask(self, calls: Sequence[Call]) -> Sequence[Any]:
        if self._serve is None:
            return [RuntimeError("this batch has no host that answers calls") for _ in calls]
        answers = self._serve(calls)
        if len(answers) != len(calls):
            raise ValueError(f"serve gave {len(answers)} answers to {len(calls)} calls; it must give one each")
        return answers

    def _patience(self) -> float:
        ends = [running.deadline for running in self._live.values() if running.deadline is not None]
        return max(0.0, min([*ends, time.monotonic() + 1.0]) - time.monotonic()) if self._live else 0.0

    def _enforce(self) -> None:
        """Kill what is out of time, and give up on a zygote that does not report."""
        now = time.monotonic()
        for index, running in self._live.items():
            if index in self._dying:
                if now > self._dying[index] + _EXIT_SECONDS:
                    raise SandboxDied("a killed job did not end")
            elif running.deadline is not None and now >= running.deadline:
                running.fail("TIMEOUT", f"more than {self._limits.wall:g} seconds")
                self._dying[index] = now
                self._link.kill(running.seat.number)
            elif not running.started and now > self._since[index] + _START_SECONDS:
                raise SandboxDied("a job did not start")

    def _bury(self, _: int) -> None:
        for end in self._link.exits():
            self._seats.check(end)
            running = self._live.pop(self._numbers.pop(end.job, -1), None)
            if running is not None:
                self._finish(running, end)

    def _finish(self, running: Running, end: Exit) -> None:
        """Read what an ended job left in its pipes, bounded, and store its outcome."""
        running.read()
        while running.capture() and not running.flooded:
            pass
        self._forget(running.connection)
        self._forget(running.output)
        outcome = running.outcome(end)
        self._dying.pop(running.index, None)
        running.close()
        if not running.started:
            raise SandboxDied(f"a job could not be confined: {outcome.stdout.strip() or outcome.error}")
        self._ledger.outcomes[running.index] = outcome
