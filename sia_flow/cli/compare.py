"""`sia-flow compare`: the arms of an experiment beside each other, with intervals and a verdict in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    spec: Annotated[Path, typer.Argument(help="The experiment's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compare the finished arms. Exit code 2 while an arm is missing."""
    from rich.console import Console

    from sia_flow.cli.render import print_final
    from sia_flow.cli.workbench import open_experiments, plan_all

    complete = True
    for project, experiment in open_experiments(spec, overrides or []):
        plans = plan_all(project, experiment)
        results = [plan.result for plan in plans if plan.result is not None]
        complete = complete and len(results) == len(plans)
        if as_json:
            rows = [result.model_dump(mode="json") for result in results]
            typer.echo(json.dumps({"experiment": experiment.metadata.name, "arms": rows}))
        else:
            print_final(Console(), f"{experiment.metadata.name}: all arms", results)
    raise typer.Exit(0 if complete else 2)
