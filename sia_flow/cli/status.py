"""`sia-flow status`: how far an experiment is, from its records alone."""

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
    """Show each arm and seed: its generations, its incumbent, what comes next."""
    from rich.console import Console

    from sia_flow.cli.plan import plan_json
    from sia_flow.cli.render import generation_line
    from sia_flow.cli.workbench import history_of, open_experiments, plan_all

    for project, experiment in open_experiments(spec, overrides or []):
        plans = plan_all(project, experiment)
        if as_json:
            typer.echo(json.dumps({"experiment": experiment.metadata.name, "arms": [plan_json(p) for p in plans]}))
            continue
        console = Console(soft_wrap=True)
        for plan in plans:
            state = f"done ({plan.result.stopped})" if plan.result else f"next: {plan.next}"
            console.print(f"{plan.arm} seed {plan.seed}: {plan.generations} generations, {state}", highlight=False)
            for generation in history_of(project, plan):
                console.print("  " + generation_line(plan.arm, generation), markup=False, highlight=False)
