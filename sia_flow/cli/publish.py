"""`sia-flow publish`: put an experiment's checkpoints under DVC, as one tracked output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    spec: Annotated[Path, typer.Argument(help="The experiment's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
) -> None:
    """Track the experiment's final agents with DVC: models/checkpoints/NAME.dvc, for git to keep and `dvc push`."""
    from sia_flow.cli.workbench import open_experiments
    from sia_flow.errors import SpecError
    from sia_flow.version.checkpoints import publish_checkpoints

    for project, experiment in open_experiments(spec, overrides or []):
        name = experiment.metadata.name
        if not (project.checkpoints / name).is_dir():
            raise SpecError(f"experiment {name} has no checkpoint yet: run `sia-flow apply {spec}` first")
        published = publish_checkpoints(project.root, name)
        typer.echo(f"{published.file.relative_to(project.root)}: {published.digest}")
        typer.echo(f"keep it: git add {published.file.relative_to(project.root)} && dvc push")
