"""The experiment flow: every arm and seed of a spec, then the comparison.

`experiment` is what `sia-flow apply` calls; `flows/deployed.py` holds the entry point that a deployment names.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled

from flows.arm_flow import PrefectBoard, as_subflow
from flows.local import run_arms
from flows.pausing import paused
from flows.prefect_runner import PrefectArtifacts, publish_comparison, run_prefect
from flows.spread import spread_arms
from flows.terminating import terminates
from sia_flow.errors import Interrupted
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Several, Silent, Watcher
from sia_flow.loop.lab import Lab
from sia_flow.loop.stopping import Stop
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments
from sia_flow.spread.launcher import Launcher

LOOK_SECONDS = 3.0
"""Between two looks at whether someone cancels the flow in the UI."""


@dataclass(slots=True)
class Session:
    """Who watches a flow that runs in this process, and who may stop it."""

    watcher: Watcher = field(default_factory=Silent)
    stop: Stop = field(default_factory=Stop)
    launcher: Launcher | None = None
    """Starts the workers of an experiment that is spread, opened ahead."""
    stopped: Interrupted | None = None
    """Set where the flow ended because it was asked to."""


SESSION: ContextVar[Session | None] = ContextVar("SESSION", default=None)


def _run_name() -> str:
    return Path(flow_run.parameters["spec"]).stem


@flow(name="experiment", flow_run_name=_run_name, persist_result=False)
def experiment(spec: str, overrides: list[str] | None = None, index: int = 0) -> list[str] | State[Any]:
    """Run experiment number `index` of a spec file; return the keys of the arms' results, or a state Cancelled."""
    project = Project.find(Path(spec))
    chosen = load_experiments(Path(spec), overrides or [])[index]
    session = SESSION.get() or Session()
    watcher = Several(session.watcher, PrefectArtifacts(Store(project.store), chosen.metadata.name))
    try:
        with (
            terminates(session.stop),
            _stopped_in_the_ui(session.stop),
            Lab(chosen, project.root, Store(project.store), watcher, session.stop) as lab,
        ):
            lab.pause = functools.partial(paused, session.stop)
            results = _all_arms(lab, session)
            publish_comparison(lab, results)
    except Interrupted as stop:
        session.stopped = stop
        return Cancelled(message=str(stop))
    return [result.key for result in results]


def _all_arms(lab: Lab, session: Session) -> list[ArmResult]:
    if lab.spec.spread is None:
        return run_arms(lab, run_prefect, functools.partial(as_subflow, session.stop))
    return spread_arms(lab, PrefectBoard(), PREFECT_API_URL.value(), session.launcher)


@contextmanager
def _stopped_in_the_ui(stop: Stop) -> Iterator[None]:
    """Ask the run to stop when its flow is cancelled: without a worker nobody else would."""
    over, run_id = threading.Event(), flow_run.id

    def look() -> None:
        with get_client(sync_client=True) as client:
            while not (over.wait(LOOK_SECONDS) or stop.asked):
                try:
                    state = client.read_flow_run(run_id).state
                except (httpx.HTTPError, PrefectException, OSError):
                    continue
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    stop.ask()

    thread = threading.Thread(target=look, name="cancellation", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
