"""`sia-flow compare SPEC --grid`: every scaffold of an arm on every adapter, and how fragile the best pair is.

Invariant: what it costs is said before it runs, and it runs only when somebody says yes; what was measured is kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console

from sia_flow.cli.apply import WIDTH
from sia_flow.cli.recorded import use_project
from sia_flow.cli.render import Terminal, print_rows
from sia_flow.lineage.locks import experiment_lock
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.grid import Cost, Grid, cost_of, grid_of, measure, neighbours
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import run_local
from sia_flow.plan.project import Project
from sia_flow.report.fragility import Fall, fall
from sia_flow.spec.models import Experiment


def run_grid(
    project: Project, experiment: Experiment, results: Sequence[ArmResult], *, yes: bool, as_json: bool
) -> bool:
    """Show the grids of the arms that trained; measure what is missing after a yes. Return whether all is there."""
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else WIDTH)
    use_project(project)
    shown = Terminal(console)
    with (
        experiment_lock(project.locks, experiment.metadata.name),
        Lab(experiment, project.root, Store(project.store), shown) as lab,
    ):
        grids = [grid for result in results if len((grid := grid_of(lab, result)).adapters) > 1]
        if not grids:
            console.print(f"{experiment.metadata.name}: no arm has weights of its own, so there is no grid")
            return True
        cost = cost_of(lab, grids)
        console.print(cost_words(experiment.metadata.name, cost), highlight=False, soft_wrap=True)
        if cost.missing and (yes or _agreed()):
            with shown:
                grids = [measure(lab, run_local, grid) for grid in grids]
    _show(console, grids, cost, as_json=as_json)
    return not any(grid.missing for grid in grids)


def cost_words(name: str, cost: Cost) -> str:
    """Return what the grid will take, in a line."""
    if not cost.missing:
        return f"grid of {name}: {cost.cells} cells, all measured"
    took = f", about {cost.seconds / 60:.1f} min as this project's own steps took" if cost.seconds else ""
    return (
        f"grid of {name}: {cost.cells} cells, {cost.missing} to measure: {cost.rollouts:,} rollouts on select, "
        f"about {cost.tokens:,.0f} tokens{took}; no agent is asked, sealed is not read"
    )


def _agreed() -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        typer.echo("not run: add --yes to measure what is missing", err=True)
        return False
    return typer.confirm("measure what is missing?")


def _show(console: Console, grids: Sequence[Grid], cost: Cost, *, as_json: bool) -> None:
    falls = list(fragility(grids))
    if as_json:
        found = {"cost": asdict(cost), "grids": [_json(grid) for grid in grids]}
        typer.echo(json.dumps(found | {"falls": [{"swap": words, **asdict(one)} for words, one in falls]}))
        return
    for grid in grids:
        print_rows(console, f"{grid.arm} seed {grid.seed}, select: scaffold x weights (* joint optimum)", rows_of(grid))
    for words, one in falls:
        seeds = "one seed" if one.seeds == 1 else f"{one.seeds} seeds"
        text = f"{words}: falls by {one}, {one.verdict}; 95% {one.method}, {seeds}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def rows_of(grid: Grid) -> list[dict[str, str]]:
    """Return a row a scaffold, a column an adapter; a dash where a pair was not measured."""
    rows = []
    for scaffold, name in grid.scaffolds.items():
        row = {"scaffold": name}
        for agent, score in grid.cells.items():
            if agent.scaffold == scaffold:
                mark = " *" if agent == grid.joint else ""
                shown = f"{score.mean:.4f} ± {score.se:.4f}{mark}" if score else "-"
                row[f"weights {grid.adapters[agent.adapter]}"] = shown
        rows.append(row)
    return rows


def fragility(grids: Sequence[Grid]) -> Iterator[tuple[str, Fall]]:
    """Yield what each swap of the joint optimum for a neighbour costs, an arm and seed at a time; then over seeds."""
    before: dict[tuple[str, str], list[Any]] = {}
    for grid in grids:
        joint = grid.cells[grid.joint]
        for part, name, agent in neighbours(grid):
            swapped = grid.cells[agent]
            if joint is None or swapped is None:
                continue
            yield f"{grid.arm} seed {grid.seed}, {part} swapped for {name}", fall([(joint, swapped)])
            if name.endswith("before it"):
                before.setdefault((grid.arm, part), []).append((joint, swapped))
    for (arm, part), pairs in before.items():
        if len(pairs) > 1:
            yield f"{arm}, {part} swapped for the one before it", fall(pairs)


def _json(grid: Grid) -> dict[str, Any]:
    cells = [
        {
            "scaffold": grid.scaffolds[agent.scaffold],
            "weights": grid.adapters[agent.adapter],
            "joint": agent == grid.joint,
            "score": score.model_dump(mode="json", exclude={"rewards"}) if score else None,
        }
        for agent, score in grid.cells.items()
    ]
    return {"arm": grid.arm, "seed": grid.seed, "cells": cells}
