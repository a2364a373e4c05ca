"""`sia-flow diff`: what is different between two generations. Exit code 0 when nothing is, 1 when something is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory

if TYPE_CHECKING:
    from sia_flow.report.difference import Difference, MetricChange

TENSORS = 6


def command(
    old: Annotated[str, typer.Argument(metavar="A", help="RUN@GEN, RUN (its incumbent), or an id's first digits.")],
    new: Annotated[str, typer.Argument(metavar="B", help="The same for the other one.")],
    *,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Show what is different from generation A to generation B.

    The scaffold's source, how far the adapter moved, the change of the mean reward with its 95 % interval (a bootstrap
    over rollouts, where both were measured on the same instances), and the instances that were fixed or broken, which
    moved by more than both standard errors together. Exit code 0 when nothing is different, 1 when something is.

    Examples: sia-flow diff denoise/SIA-H@0 denoise/SIA-H@best; sia-flow diff denoise/SIA-H denoise/SIA-W+H
    """
    from sia_flow.cli.lookup import open_store
    from sia_flow.lineage.references import find_generation
    from sia_flow.report.difference import difference

    _, store = open_store(directory)
    before, after = find_generation(store, old), find_generation(store, new)
    assert before.generation is not None
    assert after.generation is not None
    found = difference(store, before.generation, after.generation)
    if as_json:
        typer.echo(json.dumps({"old": before.label, "new": after.label, "same": found.same, **asdict(found)}))
    else:
        _show(f"{before.label} -> {after.label}", found)
    raise typer.Exit(0 if found.same else 1)


def _show(title: str, found: Difference) -> None:
    from sia_flow.cli.text import printable

    typer.echo(printable(f"{title}: {'nothing is different' if found.same else 'different'}"))
    for name, (old, new) in found.digests.items():
        typer.echo(f"{name}: {old[:12]} -> {new[:12]}; the scores below are of different things")
    for change in found.changes:
        for line in _metric_lines(change):
            typer.echo(printable(line))
    for line in _adapter_lines(found):
        typer.echo(printable(line))
    typer.echo(printable(found.scaffold or "scaffold: the same\n"), nl=False)


def _metric_lines(change: MetricChange) -> list[str]:
    interval = "" if change.low is None else f" [{change.low:+.4f}, {change.high:+.4f}]"
    lines = [f"{change.split}: {change.old:.4f} -> {change.new:.4f}, {change.new - change.old:+.4f}{interval}"]
    if change.low is None:
        lines.append("  no interval: they were measured on different instances")
    lines += [f"  {name}: {old:.4f} -> {new:.4f}" for name, (old, new) in change.metrics.items() if old != new]
    lines += [f"  fixed:  {', '.join(change.fixed)}"] if change.fixed else []
    lines += [f"  broken: {', '.join(change.broken)}"] if change.broken else []
    return lines


def _adapter_lines(found: Difference) -> list[str]:
    old, new = ((adapter or "none")[:12] for adapter in found.adapters)
    if old == new and not found.tensors:
        return [f"adapter: the same ({new})"]
    total = sum(change.delta**2 for change in found.tensors) ** 0.5
    lines = [f"adapter: {old} -> {new}: {len(found.tensors)} tensors moved, by {total:.4f} in all (Frobenius norm)"]
    lines += [f"  {c.name}: {c.old:.4f} -> {c.new:.4f}, moved {c.delta:.4f}" for c in found.tensors[:TENSORS]]
    left = len(found.tensors) - TENSORS
    return [*lines, *([f"  and {left} more"] if left > 0 else [])]
