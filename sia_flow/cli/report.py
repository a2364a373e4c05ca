"""`sia-flow report`: an experiment as one HTML page that needs no server and no network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory

if TYPE_CHECKING:
    from sia_flow.plan.project import Project


def command(
    what: Annotated[str, typer.Argument(metavar="SPEC|NAME", help="A spec file, or an experiment's name.")],
    *,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write it.")] = None,
    mlflow: Annotated[bool, typer.Option(help="Also keep it as an artifact in MLflow, where that is in use.")] = True,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Write the report: verdict, scores, spend, lineage, every decision with its outcome, diffs, trajectories.

    One file, by default runs/NAME/report.html: it names no other resource, works offline and may be mailed. Equal
    records give an equal file. An experiment that is still running gets a report of what there is.

    Example: sia-flow report denoise --out denoise.html
    """
    from sia_flow.cli.lookup import experiment_name, of_experiment, open_store
    from sia_flow.report.page.document import write_page
    from sia_flow.report.published import published_for

    project, store = open_store(directory or (Path(what) if Path(what).is_file() else None))
    name = experiment_name(what)
    heads = of_experiment(store, name)
    spec = next((head.spec for head in heads if head.spec), None)
    cited = published_for(project.root, spec["metadata"], spec["spec"]["task"]["name"]) if spec else None
    path = write_page(store, heads, out or project.runs / name / "report.html", cited)
    kept = _keep(project, name, path) if mlflow else None
    if as_json:
        typer.echo(json.dumps({"experiment": name, "path": str(path), "bytes": path.stat().st_size, "mlflow": kept}))
        return
    typer.echo(f"{os.path.relpath(path)}: {path.stat().st_size / 1e6:.1f} MB")
    if kept:
        typer.echo(f"in MLflow: {kept}")


def _keep(project: Project, name: str, path: Path) -> str | None:
    """Log the page in MLflow and say where; a tracker that is broken or was never used costs no report."""
    from sia_flow.track.environment import quiet_environment

    if not (os.environ.get("MLFLOW_TRACKING_URI") or (project.root / "mlruns" / "mlflow.db").is_file()):
        return None
    os.environ.update(quiet_environment(project.state))
    from sia_flow.track.mlflow import MlflowTracker, default_uri
    from sia_flow.track.safe import SafeTracker

    tracker = SafeTracker(lambda: MlflowTracker(default_uri(project.root), project.artifacts / name, name))
    tracker.page(path)
    return tracker.reason if tracker.dirty else f"experiment {name}, run report, artifact {path.name}"
