"""`sia-flow stop`: ask the process that runs an experiment to stop at its next safe point."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory
from sia_flow.errors import InfrastructureError

if TYPE_CHECKING:
    from sia_flow.plan.project import Project


def command(
    what: Annotated[str, typer.Argument(metavar="SPEC|NAME", help="A spec file, or an experiment's name.")],
    *,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for the running step.")] = False,
    seconds: Annotated[float, typer.Option("--wait", min=0, help="Wait so long for it to end.")] = 120.0,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Stop an experiment that runs on this machine, from this project: by `apply`, or by a worker.

    It ends after the step (in training: the iteration) that is under way, and everything up to there is stored;
    `sia-flow resume NAME` goes on. Exit code 0 when it has ended or did not run, 7 when it runs on after --wait.

    Examples: sia-flow stop denoise; sia-flow stop specs/denoise.yaml --now
    """
    from sia_flow.cli.lookup import experiment_name, open_store

    project, _ = open_store(directory)
    name = experiment_name(what)
    pid = _holder(project, name)
    if pid is not None:
        _end(project, name, pid, now=now, seconds=seconds)
    text = f"{name} has stopped (process {pid})" if pid is not None else f"{name} is not running"
    typer.echo(json.dumps({"experiment": name, "pid": pid, "stopped": pid is not None}) if as_json else text)


def _holder(project: Project, name: str) -> int | None:
    from sia_flow.lineage.locks import holder

    return holder(project.locks, name)


def _end(project: Project, name: str, pid: int, *, now: bool, seconds: float) -> None:
    # The process holds the lock at this moment, so the number is its own.
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise InfrastructureError(f"process {pid} belongs to another user: stop {name} as that user") from error
    deadline = time.monotonic() + seconds
    again = now
    while _holder(project, name) == pid:
        if time.monotonic() > deadline:
            raise InfrastructureError(f"{name} (process {pid}) is still in its step after {seconds:g} s; try --now")
        time.sleep(0.2)
        if again:
            # The second request ends it at once: the first one only asks.
            again = False
            os.kill(pid, signal.SIGINT)
