"""`sia-flow ledger`: every pull of a lever in this project, what it was expected to gain and what it gained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.cli.text import printable

if TYPE_CHECKING:
    from sia_flow.agents.offpolicy import Comparison, Estimate
    from sia_flow.lineage.ledger import LedgerRow
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project


def command(
    folder: Annotated[Path | None, typer.Argument(help="A folder of the project; the current one if left out.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List the pulls across experiments; where some were drawn by chance, compare them with the table."""
    from sia_flow.agents.offpolicy import against_table
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project

    project = Project.find(folder)
    rows = _rows(Store(project.store)) if project.store.is_dir() else []
    comparison = against_table(rows)
    if as_json:
        listed = [_json(row) for row in rows]
        typer.echo(json.dumps({"rows": listed, "comparison": asdict(comparison) if comparison else None}))
    elif rows:
        _show(rows, _task_names(project))
        typer.echo(
            _words(comparison) if comparison else "No pull was drawn by chance: nothing to compare the table by."
        )
    else:
        typer.echo(f"no lever was pulled in {project.root} yet")


def _rows(store: Store) -> list[LedgerRow]:
    """Return the rows; those of an unfinished arm have their names from its head, for a row knows of none."""
    from sia_flow.agents.ledger import ledger_rows
    from sia_flow.lineage.heads import heads

    found = {generation: head for head in heads(store) if head.result is None for generation in head.generations}
    names = {key: {"experiment": head.experiment, "arm": head.arm} for key, head in found.items()}
    return [row if row.experiment else row.model_copy(update=names.get(row.generation)) for row in ledger_rows(store)]


def _json(row: LedgerRow) -> dict[str, Any]:
    return {**row.model_dump(mode="json"), "propensity": row.propensity}


def _show(rows: Sequence[LedgerRow], tasks: Mapping[str, str]) -> None:
    cells = [_cells(row, tasks) for row in rows]
    lines = [list(cells[0]), *(list(line.values()) for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        typer.echo(printable("  ".join(map(str.ljust, line, widths)).rstrip()))


def _cells(row: LedgerRow, tasks: Mapping[str, str]) -> dict[str, str]:
    tokens = row.spend.prompt_tokens + row.spend.completion_tokens
    return {
        "experiment": row.experiment or "(unknown)",
        "arm": row.arm or "",
        "task": tasks.get(row.task or "", (row.task or "")[:8]),
        "seed": str(row.seed),
        "gen": str(row.index),
        "action": row.action,
        "forecast": f"{row.forecast:+.4f}",
        "gain": f"{row.gain:+.4f} +- {row.gain_se:.4f}",
        "kept": "yes" if row.accepted else "no",
        "rollouts": str(row.spend.rollouts),
        "tokens": str(tokens),
        "verifications": str(row.spend.verifications),
        "chance": f"{row.propensity:.2f}",
    }


def _task_names(project: Project) -> dict[str, str]:
    """Return digest -> name of the tasks as they are now; a task that changed since is shown by its digest."""
    from sia_flow.errors import TaskError
    from sia_flow.verify.task import load_task

    found = {}
    for path in sorted((project.root / "tasks").iterdir()):
        try:
            found[load_task(project.root, path.name).digest] = path.name
        except TaskError:
            continue
    return found


def _words(comparison: Comparison) -> str:
    figures = {
        "followed": comparison.followed,
        "table, by inverse propensities": comparison.table,
        "table, doubly robust": comparison.table_robust,
    }
    head = f"Mean gain of the {comparison.rows} drawn pulls, in deviations of the rewards, with 95 % intervals:"
    return "\n".join([head, *(f"  {name}: {_interval(estimate)}" for name, estimate in figures.items())])


def _interval(estimate: Estimate) -> str:
    if not estimate.effective:
        return "nothing can be said, for no drawn pull was the one that the table would have made"
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}], resting on {estimate.effective:.1f} rows"
