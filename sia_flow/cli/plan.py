"""`sia-flow plan`: arms, seeds, what is cached, what it will cost."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sia_flow.plan.forecast import ArmPlan


def command(
    spec: Annotated[Path, typer.Argument(help="The experiment's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    gpu: Annotated[
        str | None, typer.Option(help="Estimate its weight updates on H100, H200 or B200, gpt-oss's sizes beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what `apply` would do: arms, seeds, cached steps, forecast. Exit code 2 when there is work, 0 when not."""
    from sia_flow.cli.footprints import footprint_json, footprints, show_footprints
    from sia_flow.cli.workbench import open_experiments, plan_all

    work = False
    for project, experiment in open_experiments(spec, overrides or []):
        plans = plan_all(project, experiment)
        work = work or any(plan.result is None for plan in plans)
        large = footprints(project, experiment, gpu) if gpu else []
        if as_json:
            found = {"experiment": experiment.metadata.name, "arms": [plan_json(p) for p in plans]}
            typer.echo(json.dumps(found | ({"footprints": [footprint_json(f) for f in large]} if large else {})))
            continue
        _show(experiment.metadata.name, plans)
        if large:
            show_footprints(experiment.metadata.name, large)
    raise typer.Exit(2 if work else 0)


def plan_json(plan: ArmPlan) -> dict[str, Any]:
    """Return a plan as JSON."""
    return {
        "arm": plan.arm,
        "seed": plan.seed,
        "done": plan.result is not None,
        "cached_steps": plan.cached,
        "generations": plan.generations,
        "next": plan.next,
        "rollouts": list(plan.rollouts),
        "tokens": list(plan.tokens),
        "seconds": list(plan.seconds),
        "usd": [usd if isfinite(usd) else None for usd in plan.usd],
    }


def _show(name: str, plans: list[ArmPlan]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"plan of {name}", title_justify="left")
    for column in (
        "arm",
        "seed",
        "generations",
        "cached steps",
        "next",
        "rollouts",
        "tokens",
        "time",
        "cost",
    ):
        table.add_column(column, justify="left" if column in ("arm", "next") else "right")
    for plan in plans:
        todo = plan.result is None
        table.add_row(
            plan.arm,
            str(plan.seed),
            str(plan.generations),
            "all" if not todo else str(plan.cached),
            plan.next or "nothing to do",
            _range(plan.rollouts) if todo else "0",
            _range(plan.tokens) if todo else "0",
            f"{plan.seconds.low / 60:.1f}-{plan.seconds.high / 60:.1f} min" if todo else "0",
            _dollars(plan.usd),
        )
    Console().print(table)


def _dollars(usd: tuple[float, float]) -> str:
    if not isfinite(usd[1]):
        return "price not known"
    return f"${usd[0]:.2f}-{usd[1]:.2f}" if usd[0] != usd[1] else f"${usd[1]:.2f}"


def _range(value: tuple[float, float]) -> str:
    return f"{value[0]:,.0f}-{value[1]:,.0f}" if value[0] != value[1] else f"{value[0]:,.0f}"
