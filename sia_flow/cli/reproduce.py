"""`sia-flow reproduce`: make a run again in a store of its own, and compare it with the record digest by digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory

if TYPE_CHECKING:
    from sia_flow.cli.again import Line
    from sia_flow.lineage.heads import Head
    from sia_flow.lineage.store import Store


def command(
    name: Annotated[
        str, typer.Argument(metavar="RUN[@GEN]|LOCK", help="A run, or the lock.json of an exported agent.")
    ],
    *,
    check: Annotated[bool, typer.Option("--check", help="Check inputs and stored objects only; run nothing.")] = False,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="Keep what is made in this folder, and go on there.")
    ] = None,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Make a run again, from its recorded spec and from data and base under DVC, and compare every digest.

    First task, data, verifier and base are compared with the record; what is not there is fetched by DVC or built. Then
    the run is made in a store of its own, up to @GEN where that is given, and each generation's scaffold, adapter,
    trajectories, rewards and id are compared. Exit code 0 when all are the same, 1 when one is not. It costs what the
    run cost. Other versions of torch or numpy, or another processor, may change a digit: the versions are shown.

    Examples: sia-flow reproduce denoise/SIA-H/seed-0@2; sia-flow reproduce best-agent/lock.json --check
    """
    from sia_flow.cli.again import check_inputs, check_objects, make_again, version_lines
    from sia_flow.cli.recorded import use_project
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project

    project = Project.find(directory)
    use_project(project)
    store = Store(project.store)
    head, upto = _named(store, name)
    lines = check_inputs(project, head)
    if check:
        lines += check_objects(store, head)
    elif all(line.same for line in lines):
        folder = into or project.state / "reproduced" / head.name
        try:
            lines += make_again(project, store, head, folder, upto)
        finally:
            if into is None:
                shutil.rmtree(folder, ignore_errors=True)
    same = all(line.same for line in lines)
    _show(head, lines, version_lines(head), as_json=as_json, ran=not check)
    raise typer.Exit(0 if same else 1)


def _named(store: Store, name: str) -> tuple[Head, int | None]:
    """Return the run, and the generation up to which it is made; all of it where none is named."""
    from sia_flow.cli.again import read_lock
    from sia_flow.errors import SpecError
    from sia_flow.lineage.references import find

    if Path(name).is_file():
        return read_lock(Path(name)), None
    found = find(store, name)
    if found.head is None:
        raise SpecError(f"{name} is of no recorded run: name one, see sia-flow status")
    return found.head, found.generation.index if found.generation else None


def _show(head: Head, lines: list[Line], versions: list[str], *, as_json: bool, ran: bool) -> None:
    same = all(line.same for line in lines)
    if as_json:
        rows = [
            {"what": line.what, "recorded": line.recorded, "found": line.found, "same": line.same} for line in lines
        ]
        typer.echo(json.dumps({"run": head.name, "same": same, "ran": ran, "digests": rows, "versions": versions}))
        return
    for line in lines:
        mark = "same     " if line.same else "DIFFERENT"
        typer.echo(f"{mark}  {line.what}: {line.recorded[:16]}{'' if line.same else f' -> {line.found[:16]}'}")
    for text in versions:
        typer.echo(f"version   {text}")
    verb = "made again" if ran else "checked"
    typer.echo(f"{head.name} {verb}: {len(lines)} digests, {sum(not line.same for line in lines)} of them different")
