"""The process that runs an experiment, and its workers: who does what, what they tell, who is replaced.

Invariant: records are written by the workers alone, step by step under their claims, so that whatever is lost here (a
worker, this process) costs the steps that were under way and nothing else.
"""

from __future__ import annotations

import selectors
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sia_flow import __version__
from sia_flow.errors import InfrastructureError, SiaFlowError
from sia_flow.lineage.claims import claimed
from sia_flow.lineage.store import Store
from sia_flow.loop.books import close_books
from sia_flow.loop.events import Watcher
from sia_flow.loop.hands import offers_dir
from sia_flow.loop.stopping import Stop
from sia_flow.spec.models import Experiment
from sia_flow.spread.ahead import Ahead
from sia_flow.spread.jobs import Job, Jobs
from sia_flow.spread.launcher import Launcher
from sia_flow.spread.offers import Offers
from sia_flow.spread.telling import tell_again
from sia_flow.spread.ticket import Ticket
from sia_flow.spread.wire import Door, Line, Message

LOOK = 0.2
"""Seconds between two looks at who ended and whether somebody asked for a stop."""
LOSSES = 3
"""How often in a row, with no step done between, the worker of one arm and seed, or one that has not begun, may die."""
GRACE = 10.0
"""Seconds that idle workers have to end by themselves."""


class Board(Protocol):
    """Shows which arms and seeds are under way, to Prefect say."""

    def begins(self, job: Job) -> str | None:
        """A worker is about to take a job; return what it is to show itself under."""
        ...

    def lost(self, job: Job) -> None:
        """The worker of a job died."""


class NoBoard:
    """Shows nothing."""

    def begins(self, job: Job) -> str | None:
        """Show nothing."""
        del job
        return None

    def lost(self, job: Job) -> None:
        """Show nothing."""


@dataclass(slots=True)
class Worker:
    """One worker: launched, then connected, then at a job, or waiting for one, drawing ahead or helping meanwhile."""

    line: Line | None = None
    writer: str = ""
    """`host:process`, as the books name it."""
    job: Job | None = None
    told: int = 0
    """How many free workers it knows of."""
    drawing: bool = False
    helping: str | None = None
    """The offer that it takes parts of."""
    useless: bool = False
    """Whether it failed to help."""

    @property
    def waits(self) -> bool:
        """Whether it has nothing to do."""
        return self.line is not None and self.job is None and not self.drawing and self.helping is None


@dataclass(slots=True)
class Run:
    """What a crew runs, and for whom."""

    experiment: Experiment
    root: Path
    store: Store
    watcher: Watcher
    stop: Stop
    board: Board = field(default_factory=NoBoard)
    prefect: str | None = None
    """URL of the Prefect server."""


def crew_claim(experiment: Experiment) -> str:
    """Return the key of the claim that a crew holds while it runs: workers see by it that locks reach them."""
    return f"crew-{experiment.metadata.name}"


class Crew:
    """Runs one experiment's arms and seeds on workers; `results` maps each to the key of its result."""

    def __init__(self, run: Run, launcher: Launcher, jobs: int) -> None:
        self.jobs = Jobs(run.experiment.spec.arms, run.experiment.spec.seeds)
        self._ahead = Ahead(run.experiment.spec, run.store, self.jobs)
        self._run = run
        self._launcher = launcher
        self.parts = 0
        """Parts that workers took of others' batches."""
        self._offers: Offers[Worker] = Offers()
        spread = run.experiment.spec.spread
        self._helped = spread is not None and spread.share and spread.jobs is not None
        self._size = jobs if self._helped else min(jobs, len(self.jobs.order))
        self._door = Door(launcher.host)
        self._selector = selectors.DefaultSelector()
        self._workers: dict[str, Worker] = {}
        self._losses: Counter[Job | None] = Counter()
        self._launched = 0
        self._failure: SiaFlowError | None = None
        self._told_stop = False

    def run(self) -> dict[Job, str]:
        """Run everything; return the keys of the results. Raises SiaFlowError, Interrupted among them."""
        close_books(self._run.store.root.parent, self._run.experiment)
        with self._opened():
            while not self.jobs.over and not (self._halting and self.jobs.idle):
                self._fill()
                self._tell_free()
                self._listen()
                self._look_after()
            self._dismiss()
        if self._failure is not None:
            raise self._failure
        if not self.jobs.over:
            self._run.stop.obey()
        return self.jobs.results

    @property
    def _halting(self) -> bool:
        return self._failure is not None or self._run.stop.asked

    @contextmanager
    def _opened(self) -> Iterator[None]:
        self._selector.register(self._door, selectors.EVENT_READ, None)
        try:
            with claimed(self._run.store.claims, crew_claim(self._run.experiment), self._run.stop.obey):
                shutil.rmtree(self._offered, ignore_errors=True)
                yield
        finally:
            for worker in self._workers.values():
                if worker.line is not None:
                    worker.line.close()
            self._selector.close()
            self._door.close()
            self._launcher.close()
            shutil.rmtree(self._offered, ignore_errors=True)

    @property
    def _offered(self) -> Path:
        return offers_dir(self._run.store, self._run.experiment)

    def _fill(self) -> None:
        """Launch what is missing, and give those who wait something to do."""
        if self._halting:
            return
        left = len(self.jobs.order) - len(self.jobs.results)
        while len(self._workers) < (self._size if self._helped else min(self._size, left)):
            self._launched += 1
            name = f"w{self._launched}"
            self._workers[name] = Worker()
            run = self._run
            self._launcher.launch(Ticket(name, self._door.address, run.root, run.experiment, run.prefect))
        for worker in self._workers.values():
            if worker.line is not None and worker.waits:
                self._assign(worker, worker.line)

    def _assign(self, worker: Worker, line: Line) -> None:
        job = self.jobs.next()
        if job is not None:
            worker.job = job
            line.send({"do": list(job), "others": self.jobs.others(job), "flow": self._run.board.begins(job)})
        elif (order := self._ahead.next()) is not None:
            worker.drawing = True
            line.send(order)
        elif not worker.useless and (folder := self._offers.next()) is not None:
            worker.helping = folder
            line.send({"help": folder})

    def _tell_free(self) -> None:
        """Tell those who are at a job how many could help them."""
        free = sum(worker.waits and not (worker.useless or self._offers.stopped) for worker in self._workers.values())
        for worker in self._workers.values():
            if worker.line is not None and worker.job is not None and worker.told != free:
                worker.told = free
                worker.line.send({"free": free})

    def _listen(self) -> None:
        for key, _ in self._selector.select(LOOK):
            if key.data is None:
                line = self._door.open()
                self._selector.register(line, selectors.EVENT_READ, line)
                continue
            line = key.data
            messages = line.take()
            if messages is None:
                self._hung_up(line)
                continue
            for message in messages:
                if not self._heard(line, message):
                    self._hung_up(line)
                    break

    def _heard(self, line: Line, message: Message) -> bool:
        """Take in a message; False where nothing more is to be heard on this line."""
        worker = next((one for one in self._workers.values() if one.line is line), None)
        if worker is None:
            return self._greeted(line, message)
        if "event" in message:
            self._told(worker, line, message)
        elif "offer" in message:
            self._offers.add(message["offer"], worker)
        elif "offered" in message:
            self._offers.over(message["offered"])
        elif "helped" in message:
            self.parts += message["parts"]
            self._took(worker, message["helped"], message["fault"])
        elif "drawn" in message:
            worker.drawing = False
            if not message["drawn"]:
                self._ahead.stop()
        elif worker.job is not None:
            self._answered(worker, worker.job, message)
        return True

    def _told(self, worker: Worker, line: Line, message: Message) -> None:
        tell_again(self._run.watcher, self._run.store, message)
        if message["event"] == "arm_ended":
            line.send({"seen": True})
        elif message["event"] == "generation" and worker.job is not None:
            self._ahead.heard(worker.job, self._run.store.generation(message["fields"]["id"]))
        elif message["event"] == "step_ended" and not message["fields"]["cached"]:
            self._losses.pop(worker.job, None)

    def _greeted(self, line: Line, message: Message) -> bool:
        worker = self._workers.get(str(message.get("name")))
        if worker is None or worker.line is not None or not self._door.knows(message):
            return False
        if message["version"] != __version__:
            text = f"{message['host']} has sia-flow {message['version']}, this machine {__version__}: install the same"
            self._failure = SiaFlowError(text)
            return False
        worker.line, worker.writer = line, f"{message['host']}:{message['pid']}"
        self._losses.pop(None, None)
        if self._told_stop:
            line.send({"stop": True})
        return True

    def _took(self, worker: Worker, folder: str, fault: str | None) -> None:
        worker.helping = None
        if fault is None:
            self._offers.over(folder)
        else:
            worker.useless = True
            self._run.watcher.warning(f"a worker (process {worker.writer}) cannot help: {fault}")

    def _answered(self, worker: Worker, job: Job, message: Message) -> None:
        worker.job = None
        if "done" in message:
            self.jobs.done(job, message["done"])
            return
        self.jobs.back(job)
        failed = message.get("failed")
        if failed is not None and self._failure is None:
            self._failure = SiaFlowError(f"{job}: {failed['text']}")
            self._failure.exit_code = failed["code"]

    def _hung_up(self, line: Line) -> None:
        """Let go of a line; a worker that was at its other end is dead or dying."""
        self._selector.unregister(line)
        line.close()
        name = next((name for name, one in self._workers.items() if one.line is line), None)
        if name is not None:
            self._lost(name, "")

    def _lost(self, name: str, text: str) -> None:
        worker = self._workers.pop(name)
        job, run = worker.job, self._run
        if worker.writer:
            close_books(run.store.root.parent, run.experiment, worker.writer)
        self._offers.gone(worker)
        if worker.helping is not None:
            self._offers.died()
        if worker.drawing:
            self._ahead.stop()
        if job is not None:
            self.jobs.back(job)
            run.board.lost(job)
        elif worker.line is not None and self._halting:
            return
        self._losses[job] += 1
        waiting = "a worker that was about to begin"
        if worker.drawing or worker.helping:
            waiting = "a worker that drew ahead" if worker.drawing else "a worker that helped"
        what = f"the worker of {job}" if job is not None else waiting
        if self._losses[job] >= LOSSES and self._failure is None:
            tail = f":\n{text}" if text else ": killed from outside, or out of memory; run the same command again"
            self._failure = InfrastructureError(f"{what} died {LOSSES} times{tail}")
        else:
            run.watcher.warning(f"{what} (process {worker.writer or name}) died; another one takes over")

    def _look_after(self) -> None:
        for ended in self._launcher.ended():
            worker = self._workers.get(ended.name)
            # One that was connected is known by its line, which may still hold its last words.
            if worker is not None and worker.line is None:
                self._lost(ended.name, ended.text)
        if self._halting and not self._told_stop:
            self._told_stop = True
            for worker in self._workers.values():
                if worker.line is not None:
                    worker.line.send({"stop": True})

    def _dismiss(self) -> None:
        """Let the workers close what they have open."""
        left = {name for name, worker in self._workers.items() if worker.line and worker.line.send({"end": True})}
        deadline = time.monotonic() + GRACE
        while left and time.monotonic() < deadline:
            left -= {ended.name for ended in self._launcher.ended()}
            time.sleep(0.02)
