"""Deployments on a Prefect server: one an experiment, run by the workers of a pool, as processes or as pods.

Invariant: deploying twice changes nothing; what a spec says of its schedule is what the server has afterwards, and a
schedule's times do not depend on when it was deployed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sia_flow.errors import InfrastructureError
from sia_flow.track.pools import Limits, Pod, make_pool

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule

    from sia_flow.track.pools import Kind

POOL = "sia-flow"
FLOW = "sia-flow"
ENTRYPOINT = "flows/deployed.py:scheduled"
ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Where intervals are counted from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One experiment to be run by workers."""

    name: str
    spec: PurePosixPath
    """The spec's file, where the run is."""
    project: PurePosixPath
    """The project's folder there."""
    pool: str = POOL
    description: str = ""
    cron: str | None = None
    interval: float | None = None
    """Seconds."""
    timezone: str = "UTC"
    overrides: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    """Further variables of the run's process."""
    pod: Pod | None = None
    """What a Job of the run is made of; None where a worker starts it as a process beside itself."""

    @property
    def when(self) -> str:
        """The schedule in words."""
        if self.cron is not None:
            return f"cron {self.cron} ({self.timezone})"
        return f"every {self.interval:g} s" if self.interval is not None else "when started by hand"

    @property
    def kind(self) -> Kind:
        """What kind of pool the plan needs."""
        return "process" if self.pod is None else "kubernetes"


def deploy(url: str, plans: Sequence[Plan], schema: Mapping[str, Any], limits: Limits) -> dict[str, str]:
    """Make or update the pools, the limits and the deployments; return experiment -> deployment id.

    `schema` is the JSON Schema of the flow's parameters, from which the server's pages make their form. Raises
    InfrastructureError when the server does not answer or refuses.
    """
    import httpx
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.exceptions import PrefectException

    try:
        with SyncPrefectClient(url) as client:
            for (name, kind), needs in _pools(plans).items():
                make_pool(client, name, kind, limits, needs)
            flow_id = client.create_flow_from_name(FLOW)
            return {plan.name: _deploy(client, flow_id, plan, schema) for plan in plans}
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InfrastructureError(f"the Prefect server at {url} does not take deployments: {reason}") from error


def _pools(plans: Sequence[Plan]) -> dict[tuple[str, Kind], set[str]]:
    """Return which variables of its template the plans of each pool set."""
    found: dict[tuple[str, Kind], set[str]] = {}
    for plan in plans:
        found.setdefault((plan.pool, plan.kind), set()).update(plan.pod.variables() if plan.pod else ())
    return found


def _deploy(client: SyncPrefectClient, flow_id: UUID, plan: Plan, schema: Mapping[str, Any]) -> str:
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.exceptions import ObjectNotFound

    directory = str(plan.project)
    environ = {"PREFECT_LOGGING_LEVEL": "INFO", **plan.environ}
    own = {"working_dir": directory} if plan.pod is None else plan.pod.variables()
    settings: dict[str, Any] = {
        # Two runs of one experiment would wait for each other's lock: the second one queues.
        "concurrency_limit": 1,
        "parameters": {"spec": str(plan.spec), "generations": None, "seeds": None, "overrides": list(plan.overrides)},
        "description": plan.description,
        "work_pool_name": plan.pool,
        "tags": ["sia-flow"],
        "path": directory,
        "entrypoint": ENTRYPOINT,
        "parameter_openapi_schema": dict(schema),
        "enforce_parameter_schema": True,
        "paused": False,
        "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": directory}}],
        "job_variables": {"env": environ, **own},
    }
    schedules = _schedules(plan)
    try:
        found = client.read_deployment_by_name(f"{FLOW}/{plan.name}")
    except ObjectNotFound:
        found = None
    # A schedule that is made anew has another id, and Prefect tells runs apart by it: where its scheduler was just
    # about to write the old one's runs, every time would come twice.
    if found is not None and _times(found.schedules) == _times(schedules):
        client.update_deployment(found.id, DeploymentUpdate(**settings))
        return str(found.id)
    return str(client.create_deployment(flow_id=flow_id, name=plan.name, schedules=schedules, **settings))


def _times(schedules: Sequence[DeploymentSchedule | DeploymentScheduleCreate]) -> list[dict[str, Any]]:
    return [found.model_dump(mode="json", include={"schedule", "active"}) for found in schedules]


def _schedules(plan: Plan) -> list[DeploymentScheduleCreate]:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    schedule: Any = None
    if plan.cron is not None:
        schedule = CronSchedule(cron=plan.cron, timezone=plan.timezone)
    elif plan.interval is not None:
        interval = timedelta(seconds=plan.interval)
        schedule = IntervalSchedule(interval=interval, anchor_date=ANCHOR, timezone=plan.timezone)
    return [DeploymentScheduleCreate(schedule=schedule, active=True)] if schedule is not None else []
