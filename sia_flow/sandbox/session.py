"""A warm session: one zygote, restarted when it dies, and the batches that run on it.

The unit of isolation is the job: each is a fork of the clean zygote with namespaces (or a Landlock domain) of
its own, so it sees neither another job's memory nor its process. A sandbox that fails is started again and
the unharmed jobs run once more, with the answers that they were given before; failing twice is an
InfrastructureError, never a score.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from sia_flow.errors import InfrastructureError
from sia_flow.lineage.records import Isolation
from sia_flow.protocols import Image, Job, Limits, Outcome
from sia_flow.sandbox import backends
from sia_flow.sandbox.backends import Backend
from sia_flow.sandbox.batch import SCAFFOLDS, Batch, Ledger
from sia_flow.sandbox.bench import WarmBench
from sia_flow.sandbox.desk import Serve
from sia_flow.sandbox.link import Link, SandboxDied
from sia_flow.sandbox.seats import Seats

_ATTEMPTS = 2


class WarmSession:
    """Runs batches in one warm sandbox. One batch at a time; a context manager that closes itself."""

    def __init__(self, backend: Backend, image: Image, workers: int = 2) -> None:
        self._backend = backend
        self._image = image
        self._workers = max(1, workers)
        self._lock = threading.Lock()
        self._closed = False
        self._seats: Seats | None = Seats(Link(backend, image))
        self._isolation = describe(backend, self._seats.link)

    @property
    def isolation(self) -> Isolation:
        """The level at which jobs run here."""
        return self._isolation

    @property
    def pid(self) -> int | None:
        """Process id of the sandbox's first process, none while it is not started."""
        return self._seats.link.pid if self._seats else None

    def run(self, jobs: Sequence[Job], limits: Limits, serve: Serve | None = None, at_once: int = 0) -> list[Outcome]:
        """Run a batch; one outcome a job, in order. See `sia_flow.protocols.Session.run`.

        Raises InfrastructureError when the sandbox fails twice, ValueError for a job that makes no sense.
        """
        self._check(jobs)
        ledger = Ledger()
        with self._lock:
            reasons = [self._attempt(jobs, limits, (serve, at_once), ledger) for _ in range(_ATTEMPTS)]
        if len(ledger.outcomes) < len(jobs):
            raise InfrastructureError(f"the sandbox failed {_ATTEMPTS} times: {'; then: '.join(reasons)}")
        return [ledger.outcomes[index] for index in range(len(jobs))]

    @contextlib.contextmanager
    def bench(self, limits: Limits) -> Iterator[WarmBench]:
        """Open a bench for timed programs; see `sia_flow.protocols.Session.bench`."""
        self._check([])
        with self._lock:
            healthy = False
            bench = WarmBench(self._start().link, limits)
            try:
                yield bench
                bench.close()
                healthy = True
            finally:
                if not healthy:
                    self._stop()

    def close(self) -> None:
        """Kill everything in the sandbox and wait until it is gone."""
        self._closed = True
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attempt(self, jobs: Sequence[Job], limits: Limits, host: tuple[Serve | None, int], ledger: Ledger) -> str:
        """Run what has no outcome yet; return why the sandbox died, or nothing."""
        if len(ledger.outcomes) == len(jobs):
            return ""
        lanes = SCAFFOLDS if any(job.returns is None for job in jobs) else self._workers
        healthy = False
        try:
            Batch(self._start(), jobs, limits, lanes, host, ledger).run()
            healthy = True
        except SandboxDied as error:
            return str(error)
        finally:
            if not healthy:
                self._stop()
        return ""

    def _check(self, jobs: Sequence[Job]) -> None:
        if self._closed:
            raise InfrastructureError("the sandbox session is closed; open another one")
        for index, job in enumerate(jobs):
            missing = [name for name in job.arrays if name not in self._image.arrays]
            if missing:
                raise ValueError(f"job {index} names arrays that the image has not: {', '.join(missing)}")
            if job.returns is not None and job.returns.dtype != "float64":
                raise ValueError(f"job {index} declares dtype {job.returns.dtype}; results are float64")

    def _start(self) -> Seats:
        if self._seats is None:
            self._seats = Seats(Link(self._backend, self._image))
        return self._seats

    def _stop(self) -> None:
        if self._seats is not None:
            self._seats.close()
            self._seats.link.stop()
            self._seats = None


def describe(backend: Backend, link: Link) -> Isolation:
    """Return the isolation that a started zygote really gives."""
    features = list(backend.features)
    missing = list(backend.missing)
    level = backend.level
    if link.cgroups:
        level = backends.CHARGED_LEVEL
        features.append(backends.CHARGED)
        missing.remove(backends.CHARGED)
    own = "namespaces of its own for each job"
    if link.nested:
        features.append(own)
    else:
        missing += [own] if backend is not backends.LANDLOCK else []
        features += ["landlock domain of its own for each job"] if link.scoped else []
        missing += [] if link.scoped else ["signal scoping (Landlock ABI 6); jobs may signal nobody but themselves"]
    return Isolation(level=level, backend=backend.name, features=tuple(features), missing=tuple(missing))
