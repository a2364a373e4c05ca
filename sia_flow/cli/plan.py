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
    from sia_flow.loop.network import granted
    from sia_flow.report.network import network_notice

    work = False
    for project, experiment in open_experiments(spec, overrides or []):
        plans = plan_all(project, experiment)
        work = work or any(plan.result is None for plan in plans)
        large = footprints(project, experiment, gpu) if gpu else []
        urls = granted(experiment)
        if as_json:
            found = {"experiment": experiment.metadata.name, "arms": [plan_json(p) for p in plans]}
            found |= {"network": list(urls)} if urls else {}
            typer.echo(json.dumps(found | ({"footprints": [footprint_json(f) for f in large]} if large else {})))
            continue
        _show(experiment.metadata.name, plans)
        if urls:
            typer.echo(network_notice(urls))
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
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from sia_flow.plan.forecast import WAITS

    # Eight columns have to fit a terminal of 80.
    table = Table(title=f"plan of {name}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("arm", "seed", "done", "next", "rollouts", "tokens", "minutes", "cost"):
        table.add_column(column, justify="left" if column in ("arm", "next") else "right", no_wrap=column != "next")
    for plan in plans:
        if plan.result is not None:
            table.add_row(plan.arm, str(plan.seed), "all", "nothing to do", "0", "0", "0", _dollars(plan.usd))
            continue
        minutes = f"{plan.seconds.low / 60:.1f}-{plan.seconds.high / 60:.1f}"
        following = plan.next.removeprefix(f"{plan.arm} ").removeprefix(f"seed {plan.seed} ")
        table.add_row(
            plan.arm,
            str(plan.seed),
            str(plan.cached),
            "after others" if plan.next == WAITS else following,
            _range(plan.rollouts),
            _range(plan.tokens),
            minutes,
            _dollars(plan.usd),
        )
    Console().print(table)


def _dollars(usd: tuple[float, float]) -> str:
    if not isfinite(usd[1]):
        return "price not known"
    return f"${usd[0]:.2f}-{usd[1]:.2f}" if usd[0] != usd[1] else f"${usd[1]:.2f}"


def _range(value: tuple[float, float]) -> str:
    return f"{_short(value[0])}-{_short(value[1])}" if value[0] != value[1] else _short(value[0])


def _short(count: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            # Two figures are more than a forecast is good for.
            return f"{count / unit:.1f}{letter}" if count < 10 * unit else f"{count / unit:.0f}{letter}"
    return f"{count:.0f}"
