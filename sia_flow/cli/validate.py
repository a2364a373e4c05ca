"""`sia-flow validate`: check specs without running, importing or creating anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sia_flow.cli.text import printable
from sia_flow.errors import SpecError


def command(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Spec files.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Set a value: budget.generations=10."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check specs; every problem with its file, line and column. Exit code 3 when one is invalid."""
    results = [_check(path, overrides or []) for path in specs]
    valid = all(result["valid"] for result in results)
    if as_json:
        typer.echo(json.dumps({"valid": valid, "specs": results}, indent=2))
    else:
        for result in results:
            _show(result)
    if not valid:
        raise typer.Exit(SpecError.exit_code)


def _check(path: Path, overrides: list[str]) -> dict[str, Any]:
    from sia_flow.spec.identity import experiment_digest
    from sia_flow.spec.load import load_experiments
    from sia_flow.spec.problems import InvalidSpecError

    try:
        experiments = load_experiments(path, overrides)
    except InvalidSpecError as error:
        problems = [
            {
                "file": problem.mark.source,
                "line": problem.mark.line,
                "column": problem.mark.column,
                "path": problem.path,
                "message": problem.message,
            }
            for problem in error.problems
        ]
        return {"spec": str(path), "valid": False, "problems": problems, "text": str(error)}
    found = [
        {
            "name": experiment.metadata.name,
            "digest": experiment_digest(experiment),
            "arms": [arm.name for arm in experiment.spec.arms],
            "seeds": list(experiment.spec.seeds),
            "generations": experiment.spec.budget.generations,
        }
        for experiment in experiments
    ]
    return {"spec": str(path), "valid": True, "experiments": found}


def _show(result: dict[str, Any]) -> None:
    if not result["valid"]:
        typer.echo(printable(result["text"]), err=True)
        return
    for found in result["experiments"]:
        typer.echo(
            f"{result['spec']}: valid: {found['name']}, arms {', '.join(found['arms'])}, "
            f"{_count(found['seeds'], 'seed')}, up to {found['generations']} generations "
            f"({found['digest'][:12]})"
        )


def _count(items: list[Any], noun: str) -> str:
    return f"{len(items)} {noun}" if len(items) == 1 else f"{len(items)} {noun}s"
