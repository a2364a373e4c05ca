"""`sia-flow apply`: run what is missing of an experiment, and show how the arms compare."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

WIDTH = 132
"""Columns where standard output is no terminal: the closing table fits."""


class Engine(StrEnum):
    """Who runs the steps."""

    prefect = "prefect"
    local = "local"


def command(
    spec: Annotated[Path, typer.Argument(help="The experiment's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait while another apply holds the experiment.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")] = False,
    engine: Annotated[Engine, typer.Option(help="`prefect`, or `local`: no server, plain calls.")] = Engine.prefect,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Arms and seeds at once, each a process.")] = None,
    again: Annotated[bool, typer.Option("--read-sealed-again", help="Let ended arms go on and read it anew.")] = False,
) -> None:
    """Run an experiment: every arm and seed, as far as it has not run yet. The same command again continues."""
    from rich.console import Console

    from sia_flow.cli.running import Request, apply_experiment, prefect_server
    from sia_flow.cli.workbench import open_experiments
    from sia_flow.lineage.locks import experiment_lock

    overrides = [*(overrides or ()), *([f"spec.spread.jobs={jobs}"] if jobs is not None else ())]
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else WIDTH)
    opened = list(open_experiments(spec, overrides))
    with prefect_server(opened[0][0]) if engine is Engine.prefect else nullcontext() as server:
        for index, (project, experiment) in enumerate(opened):
            request = Request(project, experiment, spec.resolve(), tuple(overrides), index)
            with experiment_lock(project.locks, experiment.metadata.name, wait=wait):
                if again and project.store.is_dir():
                    from sia_flow.cli.unseal import allow_reading_again

                    allow_reading_again(project, experiment, console)
                apply_experiment(request, console, server, as_json=as_json)
