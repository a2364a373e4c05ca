"""`sia-flow deploy`: hand experiments to a Prefect server, which starts them on schedule or from its pages."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.errors import InfrastructureError, SpecError

if TYPE_CHECKING:
    from sia_flow.plan.project import Project
    from sia_flow.spec.models import Experiment
    from sia_flow.spec.operation import Pool
    from sia_flow.track.deployments import Plan
    from sia_flow.track.pools import Pod


def command(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Spec files.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    pool: Annotated[
        str | None,
        typer.Option(help="Work pool; made where there is none. By default sia-flow, or sia-flow-kubernetes."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Experiments that run at once in the pool.")] = 1,
    gpu: Annotated[int, typer.Option(min=1, help="Steps that use a GPU at once, over all experiments.")] = 1,
    api: Annotated[int, typer.Option(min=1, help="Steps that ask a paid provider at once.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Make a deployment of each spec on a Prefect server, with its `schedule:`.

    The server is the one that PREFECT_API_URL or the active profile names, else that of `sia-flow ui`. Runs start when
    a worker of the pool is there: `sia-flow ui` has one; elsewhere `prefect worker start --pool sia-flow`. Where the
    spec's `pool:` is of type kubernetes, each run is a Job: `pip install prefect-kubernetes` where the worker runs, and
    `prefect worker start --pool sia-flow-kubernetes`.
    Generations, seeds and further --set fields are asked for in the form of the server's page Deployments > Run.
    Deploying again updates; a schedule that is gone from the spec goes from the server.

    Example: sia-flow deploy specs/*.yaml --runs 2
    """
    from sia_flow.cli.workbench import open_experiments
    from sia_flow.track.deployments import deploy
    from sia_flow.track.pools import Limits

    plans: list[Plan] = []
    url = ""
    for spec in specs:
        found = list(open_experiments(spec, overrides or []))
        plans += _plans(spec, found, overrides or [], pool)
        url = url or api_url(found[0][0])
    made = deploy(url, plans, _schema(), Limits(runs, gpu, api))
    if as_json:
        rows = [{"name": plan.name, "id": made[plan.name], "schedule": plan.when, "pool": plan.pool} for plan in plans]
        typer.echo(json.dumps({"api": url, "deployments": rows}))
        return
    for plan in plans:
        typer.echo(f"sia-flow/{plan.name}: {plan.when}")
    pools = " and ".join(sorted({repr(plan.pool) for plan in plans}))
    typer.echo(f"on {url.removesuffix('/api')}/deployments; runs need a worker of the pool {pools}")


def _plans(
    spec: Path, found: Sequence[tuple[Project, Experiment]], overrides: Sequence[str], pool: str | None
) -> list[Plan]:
    from sia_flow.track.deployments import POOL, Plan

    plans: dict[str, Plan] = {}
    for project, experiment in found:
        schedule = experiment.spec.schedule
        pod = _pod(experiment.spec.pool)
        place = PurePosixPath(project.root if pod is None else pod.project)
        # A file with a matrix is one deployment: its experiments run one after the other.
        name = experiment.metadata.name if len(found) == 1 else spec.stem
        plans[name] = Plan(
            name=name,
            spec=_there(spec.resolve(), project.root, place),
            project=place,
            pool=pool or (POOL if pod is None else f"{POOL}-kubernetes"),
            description=experiment.metadata.description,
            cron=schedule.cron if schedule else None,
            interval=schedule.interval if schedule else None,
            timezone=schedule.timezone if schedule else "UTC",
            overrides=tuple(overrides),
            environ=_environ(place, here=pod is None),
            pod=pod,
        )
    return list(plans.values())


def _pod(pool: Pool | None) -> Pod | None:
    """Return what a Job is made of, None where a worker starts processes."""
    from sia_flow.track.pools import Pod

    if pool is None or pool.type == "process":
        return None
    return Pod(**pool.model_dump(exclude={"type"}))


def _there(spec: Path, root: Path, place: PurePosixPath) -> PurePosixPath:
    """Return where a spec lies for a run that has the project at `place`. Raises SpecError."""
    if place == PurePosixPath(root):
        return PurePosixPath(spec)
    if not spec.is_relative_to(root):
        raise SpecError(f"{spec} is outside of the project {root}: an image has what is inside alone")
    return place / spec.relative_to(root).as_posix()


def _schema() -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    from flows.deployed import scheduled

    return dict(parameter_schema(scheduled).model_dump_for_openapi())


def _environ(project: PurePosixPath, *, here: bool) -> dict[str, str]:
    """Return what the run's process must have as we have it; elsewhere, folders of this machine are none."""
    if not here:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        return {"PYTHONPATH": str(project)} | ({"MLFLOW_TRACKING_URI": uri} if uri.startswith("http") else {})
    kept = ("MLFLOW_TRACKING_URI", "OMP_NUM_THREADS")
    paths = [str(project), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": os.pathsep.join(paths)}


def api_url(project: Project) -> str:
    """Return the API of the user's server, else of this project's pages. Raises InfrastructureError."""
    from sia_flow.track.environment import profile_server, quiet_environment

    own = profile_server(os.environ).get("PREFECT_API_URL")
    os.environ.update(quiet_environment(project.state))
    found = own or running_pages(project.state)
    if found is None:
        raise InfrastructureError(
            "no Prefect server is there to deploy to: run `sia-flow ui` (or `make ui`) in another terminal, "
            "or set PREFECT_API_URL"
        )
    return found


def running_pages(state: Path) -> str | None:
    """Return the API URL of the pages that `sia-flow ui` serves for this project, None where it does not run."""
    from sia_flow.track.service import answers

    try:
        url = str(json.loads((state / "ui.json").read_text(encoding="utf-8"))["api"])
    except (OSError, ValueError, KeyError):
        return None
    return url if answers(f"{url}/health") else None
