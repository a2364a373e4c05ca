"""A worker of an experiment that is spread over processes: it runs one arm and seed after the other, as it is told.

Invariant: it does what `flows/local.py` does in one process, and ends when whoever runs the experiment is gone.
"""

from __future__ import annotations

import functools
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.local import arm_body
from sia_flow import __version__
from sia_flow.errors import Interrupted, SiaFlowError, StoreError
from sia_flow.lineage.claims import is_claimed
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.control import draw
from sia_flow.loop.lab import Lab
from sia_flow.loop.parts import Helper
from sia_flow.loop.pausing import unpaused
from sia_flow.loop.prepared import run_local
from sia_flow.loop.stopping import Stop
from sia_flow.plan.project import Project
from sia_flow.spread.crew import crew_claim
from sia_flow.spread.telling import Teller
from sia_flow.spread.ticket import Ticket
from sia_flow.spread.wire import Line, Message
from sia_flow.track.environment import quiet_environment


class Orders:
    """What the process that runs the experiment says, taken in by a thread of its own."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.stop = Stop()
        self.jobs: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.free = 0
        """How many other workers could help."""
        self._seen = threading.Semaphore(0)
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def wait_until_seen(self) -> None:
        """Wait until the end of an arm was looked at."""
        self._seen.acquire()

    def _read(self) -> None:
        for message in self.line.messages():
            if "do" in message or "draw" in message or "help" in message:
                self.jobs.put(message)
            elif "seen" in message:
                self._seen.release()
            elif "free" in message:
                self.free = message["free"]
            elif "stop" in message:
                self.stop.ask()
            elif "end" in message:
                self.jobs.put(None)
                return
        # Whoever ran the experiment is gone: nobody is left to work for. Sandboxes end with their process.
        os._exit(1)

    @contextmanager
    def offered(self, folder: Path) -> Iterator[None]:
        """Let the other workers take parts of an offer while the block runs."""
        self.line.send({"offer": str(folder)})
        try:
            yield
        finally:
            self.line.send({"offered": str(folder)})


def work(ticket: Ticket) -> None:
    """Knock, then run what is handed out until there is no more."""
    if str(ticket.root) not in sys.path:
        sys.path.insert(0, str(ticket.root))
    line = ticket.address.call()
    line.send(
        {
            "secret": ticket.address.secret,
            "name": ticket.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
        }
    )
    orders = Orders(line)
    project = Project(ticket.root)
    if ticket.prefect is not None:
        os.environ.update({**quiet_environment(project.state), "PREFECT_API_URL": ticket.prefect})
    teller = Teller(line.send, orders.wait_until_seen)
    with Lab(ticket.experiment, ticket.root, Store(project.store), teller, orders.stop) as lab:
        lab.alone, lab.hands, helper = False, orders, Helper(lab)
        while (order := orders.jobs.get()) is not None:
            if "draw" in order:
                _draw(lab, line, order)
            elif "help" in order:
                _help(helper, line, order["help"])
            else:
                _answer(lab, line, order)


def _draw(lab: Lab, line: Line, order: Message) -> None:
    """Draw a chunk of a control ahead of it, and say whether that went well: whoever needs it will say why not."""
    (arm, seed), chunk = order["draw"], order["chunk"]
    try:
        _demand_store(lab)
        draw(lab, run_local, order["scaffold"], seed, chunk, f"{arm} seed {seed} chunk {chunk + 1}, ahead")
    except SiaFlowError:
        line.send({"drawn": False})
    else:
        line.send({"drawn": True})


def _help(helper: Helper, line: Line, folder: str) -> None:
    """Take parts of another worker's batch, and say what was in the way: whoever needs them does them."""
    try:
        line.send({"helped": folder, "parts": helper.help(Path(folder)), "fault": None})
    except SiaFlowError as error:
        line.send({"helped": folder, "parts": 0, "fault": str(error)})


def _answer(lab: Lab, line: Line, order: Message) -> None:
    """Run a job and say what came of it: `done` with the key of its result, `stopped`, or `failed` with the reason."""
    try:
        _demand_store(lab)
        line.send({"done": _run(lab, order).key})
    except Interrupted as stop:
        line.send({"stopped": str(stop)})
    except SiaFlowError as error:
        line.send({"failed": {"text": str(error), "code": error.exit_code}})
    except BaseException:
        line.send({"failed": {"text": traceback.format_exc(), "code": SiaFlowError.exit_code}})
        raise


def _demand_store(lab: Lab) -> None:
    """Raise StoreError where this machine does not see the experiment's store, or its locks."""
    if not is_claimed(lab.store.claims, crew_claim(lab.experiment)):
        raise StoreError(
            f"{socket.gethostname()} does not see the lock that the experiment holds in {lab.store.claims}: every "
            "machine needs the project at the same path, on a file system that passes locks (flock) on, NFS 4 say"
        )


def _run(lab: Lab, order: Message) -> ArmResult:
    results = [lab.store.arm(key) for key in order["others"]]
    others = tuple(result for result in results if result is not None)
    if order["flow"] is not None:
        try:
            return _shown(lab, order, others)
        except ConnectionError as error:
            name = " seed ".join(map(str, order["do"]))
            lab.watcher.warning(f"{name}: the Prefect server went away ({error}); it goes on without it")
    return arm_body(lab, run_local, _state(lab, order), others)()


def _shown(lab: Lab, order: Message, others: tuple[ArmResult, ...]) -> ArmResult:
    """Run a job as the flow that was begun for it. Raises ConnectionError where the server is gone."""
    import httpx
    from prefect.exceptions import PrefectException

    from flows.arm_flow import as_subflow
    from flows.pausing import paused
    from flows.prefect_runner import run_prefect

    state = _state(lab, order)
    lab.pause = functools.partial(paused, lab.stop)
    try:
        return as_subflow(lab.stop, state, arm_body(lab, run_prefect, state, others), order["flow"])
    except (httpx.HTTPError, PrefectException) as error:
        raise ConnectionError(type(error).__name__) from error
    finally:
        lab.pause = unpaused


def _state(lab: Lab, order: Message) -> ArmState:
    name, seed = order["do"]
    return ArmState(next(arm for arm in lab.spec.arms if arm.name == name), seed)
