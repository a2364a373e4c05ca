"""Workers as tasks of a Dask or a Ray cluster. Every machine has sia-flow and the project's folder at the same path.

Invariant: a task only holds a worker's process, so that a cluster is asked for nothing but a place and a Python; a task
that the cluster starts a second time finds its place taken, and ends.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from sia_flow.apart import start_apart
from sia_flow.errors import InfrastructureError, SpecError
from sia_flow.spec.models import Spread
from sia_flow.spread.launcher import Ended, Launcher
from sia_flow.spread.processes import cores
from sia_flow.spread.ticket import Ticket
from sia_flow.spread.wire import own_address

LAST = 2000
"""Characters that are shown of what a worker printed."""


PATIENCE = 30
"""Seconds that a scheduler has to answer."""


def open_cluster(spread: Spread) -> Launcher:
    """Return the launcher of a cluster, one of this machine where the spec names none.

    Raises SpecError where its library is not installed, InfrastructureError where it does not answer.
    """
    try:
        return DaskCluster(spread) if spread.type == "dask" else RayCluster(spread)
    except ImportError as error:
        raise SpecError(
            f"spec.spread.type {spread.type} needs the package {error.name}: pip install 'sia-flow[{spread.type}]'"
        ) from error


def run_worker(ticket: str) -> str:
    """Hold a worker's process on a machine of the cluster until it ends; return what it printed last."""
    with tempfile.TemporaryFile() as said:
        process = start_apart(
            [sys.executable, "-m", "sia_flow.spread.alone"],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(ticket.encode() + b"\n")
                process.stdin.flush()
            process.wait()
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
        said.seek(0)
        return said.read()[-LAST:].decode(errors="replace").strip()


class DaskCluster:
    """A launcher on Dask."""

    def __init__(self, spread: Spread) -> None:
        from distributed import Client, LocalCluster

        self.host = _own(spread.address)
        self._cluster: Any = None
        if spread.address is None:
            # Threads are enough to hold processes, and end with this one.
            size = spread.jobs or cores()
            self._cluster = LocalCluster(
                n_workers=size,
                threads_per_worker=1,
                processes=False,
                dashboard_address=None,
                silence_logs=logging.ERROR,
            )
        try:
            self._client = Client(self._cluster or spread.address, timeout=PATIENCE, set_as_default=False)
        except OSError as error:
            raise InfrastructureError(f"no Dask scheduler answers at {spread.address}: {error}") from error
        self.seats = max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))
        self._tasks: dict[str, Any] = {}

    def launch(self, ticket: Ticket) -> None:
        """Submit a worker."""
        self._tasks[ticket.name] = self._client.submit(run_worker, ticket.to_json(), pure=False)

    def ended(self) -> list[Ended]:
        """Return the workers whose task is over."""
        over = {name: task for name, task in self._tasks.items() if task.done()}
        self._tasks = {name: task for name, task in self._tasks.items() if name not in over}
        return [Ended(name, str(task.exception() or task.result())) for name, task in over.items()]

    def close(self) -> None:
        """Leave the cluster; what was started for this run ends."""
        self._client.cancel(list(self._tasks.values()))
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


class RayCluster:
    """A launcher on Ray."""

    def __init__(self, spread: Spread) -> None:
        import ray

        self._ray = ray
        self.host = _own(spread.address)
        size = {} if spread.address else {"num_cpus": spread.jobs or cores(), "include_dashboard": False}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(address=spread.address, log_to_driver=False, logging_level="ERROR", **size)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InfrastructureError(f"no Ray cluster answers at {spread.address}: {error}") from error
        finally:
            _restore(handlers)
        self.seats = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._tasks: dict[str, Any] = {}

    def launch(self, ticket: Ticket) -> None:
        """Submit a worker."""
        task = self._ray.remote(num_cpus=1, max_retries=0)(run_worker)
        self._tasks[ticket.name] = task.remote(ticket.to_json())

    def ended(self) -> list[Ended]:
        """Return the workers whose task is over."""
        waiting = list(self._tasks.values())
        done = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []
        over = {name: task for name, task in self._tasks.items() if task in done}
        self._tasks = {name: task for name, task in self._tasks.items() if name not in over}
        return [Ended(name, self._said(task)) for name, task in over.items()]

    def close(self) -> None:
        """Leave the cluster; what was started for this run ends."""
        self._ray.shutdown()

    def _said(self, task: Any) -> str:
        try:
            return str(self._ray.get(task))
        except self._ray.exceptions.RayError as error:
            return str(error)


def _own(address: str | None) -> str | None:
    """Return the number under which machines of a cluster reach this one; None where they are this one."""
    if address is None:
        return None
    host = urlsplit(address if "//" in address else f"//{address}").hostname
    if host is None or host == "auto":
        raise SpecError(
            f"spec.spread.address {address!r} names no host: write host:port, with tcp:// before it for Dask"
        )
    return own_address(host)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    # The library puts its own handlers in the place of those that stop a run politely.
    with suppress(ValueError):
        for number, handler in handlers.items():
            signal.signal(number, handler)
