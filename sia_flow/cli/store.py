"""`sia-flow store push|pull URL`: the records of a project, carried to a bucket or a share, and back."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory


class Action(StrEnum):
    """Which way the records go."""

    push = "push"
    pull = "pull"


def command(
    action: Annotated[Action, typer.Argument(help="`push`: to URL what it lacks; `pull`: from URL what lacks here.")],
    url: Annotated[
        str, typer.Argument(help="A folder, or a URL that fsspec knows: s3://bucket/path, gs://..., sftp://...")
    ],
    *,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Carry records, objects, paid answers and what was spent to another place, and back.

    Records never change, so nothing is ever overwritten: two machines that push to one place and pull from it have the
    same records, and neither runs, or pays for, a step that the other has done. What comes in is checked against
    its digest. Both may be called while a run is under way. Buckets need a package of their own (`pip install s3fs`,
    `gcsfs`, `adlfs`), which finds its keys where it always does.

    Exit code 7 where the place does not answer, 4 where what it holds is damaged.

    Examples: sia-flow store push s3://group/denoise; sia-flow store pull s3://group/denoise
    """
    from rich.console import Console
    from rich.progress import Progress

    from sia_flow.cli.lookup import open_store
    from sia_flow.lineage.mirror import pull, push
    from sia_flow.plan.project import Project

    project = open_store(directory)[0] if action is Action.push else Project.find(directory)
    carry = push if action is Action.push else pull
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(f"{action} {url}", total=None)

        def told(files: int, size: int) -> None:
            progress.update(task, description=f"{action} {url}: {files} files, {size / 1e6:.1f} MB")

        found = carry(project.state, url, told)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    typer.echo(f"{action}ed {found.files} files, {found.size / 1e6:.1f} MB; {found.there} were there")
    for run in found.differing:
        typer.echo(f"{run} went on in two ways; each side keeps its own, and the records of both are in both")
    if action is Action.pull and found.files:
        typer.echo("`sia-flow status` shows the runs, `sia-flow track sync` shows them in MLflow")
