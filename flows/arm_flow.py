"""One arm and seed as a flow of its own, so that the Prefect UI shows it as one: below the experiment's flow, whichever
process runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from prefect import Flow, Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Crashed, Pending
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.terminating import terminates
from sia_flow.errors import Interrupted
from sia_flow.lineage.results import ArmResult
from sia_flow.loop.arm import ArmState
from sia_flow.loop.stopping import Stop
from sia_flow.spread.jobs import Job

NAME = "improve"


def as_subflow(stop: Stop, state: ArmState, body: Callable[[], ArmResult], begun: str | None = None) -> ArmResult:
    """Run an arm as a flow below the running one, or as the run of this id that was begun for it elsewhere."""
    ended = _Ended()
    flow = _flow(stop, state, body, ended)
    parameters = {"arm": state.arm.name, "seed": state.seed}
    if begun is None:
        found = cast("State[Any]", flow(**parameters, return_state=True))
    else:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(begun))
        found = cast("State[Any]", run_flow(flow, flow_run=run, parameters=parameters, return_type="state"))
    if ended.stopped is not None:
        raise ended.stopped
    if not found.is_completed():
        found.result()
    assert ended.result is not None
    return ended.result


@dataclass(slots=True)
class _Ended:
    result: ArmResult | None = None
    stopped: Interrupted | None = None


def _flow(stop: Stop, state: ArmState, body: Callable[[], ArmResult], ended: _Ended) -> Flow[..., Any]:
    def improve(arm: str, seed: int) -> str | State[Any]:
        del arm, seed
        try:
            with terminates(stop):
                ended.result = body()
        except Interrupted as asked:
            ended.stopped = asked
            return Cancelled(message=str(asked))
        return ended.result.key

    return Flow(improve, name=NAME, flow_run_name=f"{state.arm.name} seed {state.seed}", persist_result=False)


@dataclass(slots=True)
class PrefectBoard:
    """Begins the flow of each job below the running flow; the worker that takes the job goes on with it."""

    begun: dict[Job, UUID] = field(default_factory=dict)

    def begins(self, job: Job) -> str:
        """Begin the flow of a job; return its id."""
        parameters = {"arm": job.arm, "seed": job.seed}
        task = Task(_nothing, name=NAME)
        parent: TaskRun = run_coro_as_sync(
            task.create_run(flow_run_context=FlowRunContext.get(), parameters=parameters)
        )
        flow = Flow(_nothing, name=NAME)
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(
                flow, parameters=parameters, state=Pending(), parent_task_run_id=parent.id, name=str(job)
            )
        self.begun[job] = run.id
        return str(run.id)

    def lost(self, job: Job) -> None:
        """Show that a job's worker died; the one that takes over has a flow of its own."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(self.begun.pop(job), Crashed(message="the worker died"), force=True)


def _nothing(arm: str, seed: int) -> None:
    """Stand for the arm's flow where only its name and its parameters count."""
