"""Running an experiment from the command line: prepare, plan, serve, run, show.

Invariant: no server starts and no model loads unless a step is missing.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from sia_flow.cli.closing import open_tracking, where_to_look
from sia_flow.cli.render import JsonLines, Terminal, print_final
from sia_flow.cli.verdicts import verdicts
from sia_flow.cli.workbench import announce_changes, plan_all
from sia_flow.errors import InfrastructureError, StoreError
from sia_flow.lineage.results import ArmResult
from sia_flow.loop.events import Several, Watcher
from sia_flow.loop.stopping import Stop
from sia_flow.plan.project import Project
from sia_flow.report.published import caveats, published_for
from sia_flow.spec.models import Experiment

if TYPE_CHECKING:
    from sia_flow.spread.launcher import Launcher
    from sia_flow.track.server import PrefectServer


@dataclass(frozen=True, slots=True)
class Request:
    """One experiment to apply, and where it was written down."""

    project: Project
    experiment: Experiment
    spec: Path
    overrides: tuple[str, ...]
    index: int
    """Position in its file, where a matrix makes several."""


@contextmanager
def prefect_server(project: Project) -> Iterator[PrefectServer]:
    """Yield the Prefect server of all experiments of one apply: the process is told of it only once."""
    from sia_flow.track.server import PrefectServer

    server = PrefectServer(project.state)
    try:
        yield server
    finally:
        server.stop()


def apply_experiment(
    request: Request, console: Console, server: PrefectServer | None, *, as_json: bool
) -> list[ArmResult]:
    """Run what is missing, print the comparison, return the arms' results. Raises SiaFlowError.

    `server` is Prefect's, of `prefect_server`; it starts when it is needed. Without one the steps are plain calls.
    """
    announce_changes(request.project, request.experiment, console)
    with _storage_faults():
        early = server is not None and not _prepared(request)
        if server and early:
            _begin(server)
        _prepare(request, console)
        results = finished(request)
        if results is None:
            if server and not early:
                _begin(server)
            _run(request, console, server, as_json=as_json)
            results = finished(request) or []
        else:
            console.print("nothing to do: every step has its record", highlight=False)
    _close(request, console, results, as_json=as_json)
    return results


def finished(request: Request) -> list[ArmResult] | None:
    """Return the results of all arms and seeds, or None while one is missing."""
    results = [plan.result for plan in plan_all(request.project, request.experiment)]
    return [result for result in results if result] if all(results) else None


def _prepared(request: Request) -> bool:
    from flows.prepare import is_prepared
    from sia_flow.verify.task import load_task

    spec = request.experiment.spec
    task = load_task(request.project.root, spec.task.name)
    base = (request.project.models / spec.policy.base, Path(spec.policy.base))
    return is_prepared(task.data_dir(request.project.root, spec.task.data)) and any(b.is_dir() for b in base)


def _prepare(request: Request, console: Console) -> None:
    if _prepared(request):
        return
    from flows.prepare import data_notes, prepare_experiment
    from sia_flow.verify.task import load_task

    console.print("preparing the data set and the base model (once)", highlight=False)
    with console.status("building"):
        prepare_experiment(request.project, request.experiment)
    root, chosen = request.project.root, request.experiment.spec.task
    for note in data_notes(load_task(root, chosen.name).data_dir(root, chosen.data)):
        console.print(f"  {note}", markup=False, highlight=False)


def _begin(server: PrefectServer) -> None:
    # What is wrong with it is said by `run_with_prefect`, which tries once more.
    with suppress(InfrastructureError, OSError):
        server.start_async()


def _run(request: Request, console: Console, server: PrefectServer | None, *, as_json: bool) -> None:
    with ExitStack() as stack:
        # Imports take seconds, here and where workers begin: they are done while the server starts.
        named = server is None or _name(server)
        launcher = _launcher(request, stack, prefect=server is not None) if named else None
        tracking = open_tracking(request)
        stack.callback(tracking.close, request)
        if server is not None and named:
            importlib.import_module("flows.experiment")
        stack.enter_context(tracking.noted())
        shown: Watcher = JsonLines(Console()) if as_json else stack.enter_context(Terminal(console))
        watcher = Several(shown, *tracking.watchers)
        stop = stack.enter_context(polite_stop(console))
        if server is not None:
            run_with_prefect(request, server, watcher, stop, launcher)
        if finished(request) is None:
            from flows.local import run_experiment

            run_experiment(request.experiment, request.project.root, watcher, stop, launcher)
    if tracking.safe.dirty:
        console.print(f"warning: MLflow misses part of this run: {tracking.safe.reason}", markup=False)


def _name(server: PrefectServer) -> bool:
    """Tell Prefect in this process and its workers of the server; false where its URL is not known yet.

    It has to be before Prefect is imported, which reads the environment once.
    """
    os.environ.update({"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", **server.variables()})
    return "PREFECT_API_URL" in os.environ


def _launcher(request: Request, stack: ExitStack, *, prefect: bool) -> Launcher | None:
    """Open what starts workers, if workers are asked for."""
    from flows.spread import opened_ahead

    launcher = opened_ahead(request.experiment, request.project.root, prefect=prefect)
    if launcher is not None:
        stack.callback(launcher.close)
    return launcher


def run_with_prefect(
    request: Request, server: PrefectServer, watcher: Watcher, stop: Stop, launcher: Launcher | None = None
) -> None:
    """Run the experiment's flow. A server that does not start, or goes away, costs a warning: the steps run here."""
    _name(server)
    try:
        os.environ["PREFECT_API_URL"] = server.reach()
    except (InfrastructureError, OSError) as error:
        reason = str(error).splitlines()[0]
        watcher.warning(f"no Prefect server ({reason}); the run goes on without it, as with --engine local")
        return
    import httpx
    from prefect.exceptions import PrefectException

    from flows.experiment import SESSION, Session, experiment

    session = Session(watcher, stop, launcher)
    SESSION.set(session)
    try:
        with _no_patience_with_the_dead(server):
            ended = experiment(str(request.spec), list(request.overrides), request.index, return_state=True)
        if session.stopped is None and not ended.is_completed():
            ended.result()
    except (httpx.HTTPError, PrefectException, ConnectionError) as error:
        watcher.warning(f"the Prefect server went away ({type(error).__name__}); the run goes on without it")
    finally:
        _close_prefect(server)
    if session.stopped is not None:
        raise session.stopped


def _close_prefect(server: PrefectServer) -> None:
    """Let Prefect send what it has not sent of its logs; what is meant for a server that has died, it forgets."""
    from prefect.logging.handlers import APILogWorker

    # It says each failure on stderr, without a name of what failed.
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        APILogWorker.drain_all(timeout=5)
    finally:
        logging.raiseExceptions = before
    if server.private and not server.running:
        _forget_events()


def _forget_events() -> None:
    """Drop the events that wait to be sent: at exit Prefect would try each of them for seven seconds.

    No public way leads to them. Where a version of Prefect has them elsewhere, the exit takes its time.
    """
    with suppress(ImportError, AttributeError):
        from prefect._internal.concurrency.services import _active_services

        for service in list(_active_services):
            waiting = service._queue  # noqa: SLF001
            with suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            waiting.put_nowait(None)


@contextmanager
def _no_patience_with_the_dead(server: PrefectServer) -> Iterator[None]:
    """Let Prefect's client retry no call when the private server has ended: each would wait for seconds.

    Nor shall each event and log line that is lost be printed: one warning says that the server went away.
    """
    from prefect.settings import get_current_settings

    settings, over = get_current_settings().client, threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            if not server.running:
                settings.max_retries = 0
                logging.raiseExceptions = False
                logging.getLogger("prefect._internal.concurrency").disabled = True
                return

    before = settings.max_retries
    if server.private:
        threading.Thread(target=look, name="server's end", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        settings.max_retries = before


@contextmanager
def _storage_faults() -> Iterator[None]:
    """Turn a full or closed disk that a library ran into, anywhere, into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        where = error.filename or "a file"
        raise StoreError(f"cannot write {where}: {error.strerror}; make room and run the same command again") from error


@contextmanager
def polite_stop(console: Console) -> Iterator[Stop]:
    """Turn the first Ctrl-C into a request to stop at the next safe point; the second one stops at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(_signal: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.ask()
        console.print("stopping after the current step; press Ctrl-C again to stop at once", highlight=False)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _close(request: Request, console: Console, results: Sequence[ArmResult], *, as_json: bool) -> None:
    name, metadata = request.experiment.metadata.name, request.experiment.metadata.model_dump()
    theirs = published_for(request.project.root, metadata, request.experiment.spec.task.name)
    if not as_json:
        print_final(console, f"{name}: all arms", results, theirs[1] if theirs else None)
    notes = caveats(*theirs) if theirs else []
    for line in (*notes, *verdicts(results), *where_to_look(request.project, name, results, theirs)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
