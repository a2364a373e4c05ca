"""`sia-flow prepare`: make data sets and base models, as `apply` does by itself; the stages of dvc.yaml call it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sia_flow.cli.text import printable


def command(
    what: Annotated[str, typer.Argument(help="`data`, `base`, or a spec file.")],
    name: Annotated[str | None, typer.Argument(help="TASK or TASK/DATA for data; the model's name for base.")] = None,
    *,
    task: Annotated[str, typer.Option(help="Task whose corpus a base is built on.")] = "denoise",
    force: Annotated[bool, typer.Option("--force", help="Make it anew even if it is there.")] = False,
) -> None:
    """Make a data set or a base model, or all that a spec needs."""
    from sia_flow.errors import SpecError
    from sia_flow.plan.project import Project
    from sia_flow.verify.task import load_task

    project = Project.find(Path(what) if Path(what).is_file() else None)
    sys.path.insert(0, str(project.root))
    from flows.prepare import data_notes, prepare_base, prepare_data, prepare_experiment

    if what == "data":
        task_name, _, data = (name or task).partition("/")
        folder = prepare_data(project, load_task(project.root, task_name), data or None)
        for note in data_notes(folder):
            typer.echo(f"  {printable(note)}")
    elif what == "base":
        if force:
            _remove(project.models / (name or "tiny-gpt-oss"))
        folder = prepare_base(project, name or "tiny-gpt-oss", load_task(project.root, task), _progress)
    elif Path(what).is_file():
        from sia_flow.cli.workbench import open_experiments

        for found, experiment in open_experiments(Path(what), []):
            prepare_experiment(found, experiment, _progress)
        folder = project.root
    else:
        raise SpecError(
            f"{what!r} is neither `data`, `base` nor a spec file; try `sia-flow prepare specs/denoise.yaml`"
        )
    typer.echo(f"ready: {folder}")


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _progress(step: int, steps: int, loss: float) -> None:
    if step % 50 == 0 or step == steps:
        typer.echo(f"  base model: step {step} of {steps}, loss {loss:.3f}", err=True)
