"""`sia-flow deploy`: hand experiments to a Prefect server, which starts them on schedule or from its pages."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.errors import InfrastructureError

if TYPE_CHECKING:
    from sia_flow.plan.project import Project
    from sia_flow.track.deployments import Plan


def command(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Spec files.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    pool: Annotated[str, typer.Option(help="Work pool; it is made where there is none.")] = "sia-flow",
    runs: Annotated[int, typer.Option(min=1, help="Experiments that run at once in the pool.")] = 1,
    gpu: Annotated[int, typer.Option(min=1, help="Steps that use a GPU at once, over all experiments.")] = 1,
    api: Annotated[int, typer.Option(min=1, help="Steps that ask a paid provider at once.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Make a deployment of each spec on a Prefect server, with its `schedule:`.

    The server is the one that PREFECT_API_URL or the active profile names, else that of `sia-flow ui`. Runs start when
    a worker of the pool is there: `sia-flow ui` has one; elsewhere `prefect worker start --pool sia-flow`.
    Generations, seeds and further --set fields are asked for in the form of the server's page Deployments > Run.
    Deploying again updates; a schedule that is gone from the spec goes from the server.

    Example: sia-flow deploy specs/*.yaml --runs 2
    """
    from sia_flow.cli.workbench import open_experiments
    from sia_flow.track.deployments import Limits, deploy

    plans: list[Plan] = []
    url = ""
    for spec in specs:
        found = list(open_experiments(spec, overrides or []))
        plans += _plans(spec, found, overrides or [])
        url = url or api_url(found[0][0])
    made = deploy(url, plans, _schema(), Limits(runs, gpu, api), pool)
    if as_json:
        rows = [{"name": plan.name, "id": made[plan.name], "schedule": plan.when} for plan in plans]
        typer.echo(json.dumps({"api": url, "pool": pool, "deployments": rows}))
        return
    for plan in plans:
        typer.echo(f"sia-flow/{plan.name}: {plan.when}")
    typer.echo(f"on {url.removesuffix('/api')}/deployments; runs need a worker of the pool {pool!r}")


def _plans(spec: Path, found: Sequence[tuple[Project, object]], overrides: Sequence[str]) -> list[Plan]:
    from sia_flow.spec.models import Experiment
    from sia_flow.track.deployments import Plan

    plans: dict[str, Plan] = {}
    for project, experiment in found:
        assert isinstance(experiment, Experiment)
        schedule = experiment.spec.schedule
        # A file with a matrix is one deployment: its experiments run one after the other.
        name = experiment.metadata.name if len(found) == 1 else spec.stem
        plans[name] = Plan(
            name=name,
            spec=spec.resolve(),
            root=project.root,
            description=experiment.metadata.description,
            cron=schedule.cron if schedule else None,
            interval=schedule.interval if schedule else None,
            timezone=schedule.timezone if schedule else "UTC",
            overrides=tuple(overrides),
            environ=_environ(project.root),
        )
    return list(plans.values())


def _schema() -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    from flows.deployed import scheduled

    return dict(parameter_schema(scheduled).model_dump_for_openapi())


def _environ(root: Path) -> dict[str, str]:
    """Return what the worker's process must have as we have it."""
    kept = ("MLFLOW_TRACKING_URI", "OMP_NUM_THREADS")
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
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
