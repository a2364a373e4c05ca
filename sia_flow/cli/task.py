"""`sia-flow task`: make a task, check one, take one over from another system, list what is there."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from sia_flow.cli.text import printable
from sia_flow.errors import TaskError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, check, import and list tasks.")


class Kind(StrEnum):
    """Systems whose tasks can be taken over."""

    sia = "sia-agent"
    openevolve = "openevolve"
    shinka = "shinka"
    inspect = "inspect"
    mle = "mle-bench"


class Direction(StrEnum):
    """Whether more of a metric is better."""

    maximize = "maximize"
    minimize = "minimize"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the task: lower-case letters and digits.")],
) -> None:
    """Lay out a small task that runs at once: tasks/NAME and specs/NAME.yaml. Change it into yours.

    Then: `sia-flow task check tasks/NAME` and `sia-flow apply specs/NAME.yaml`.
    """
    from sia_flow.importers.fresh import lay_new
    from sia_flow.plan.project import Project

    folder = lay_new(name, Project.find().root)
    shown = folder.relative_to(folder.parents[1])
    typer.echo(f"{shown}: a task that runs\nNext:\n  sia-flow task check {shown}")
    typer.echo(f"  sia-flow apply specs/{name}.yaml")


@app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="tasks/NAME, or a sia-agent task folder.")],
    data: Annotated[str | None, typer.Option(help="Data set: a name or a path; the task's default.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Run the admission probes: nothing that needs no work may pay. Exit code 3 when one fails.

    Null, constant and echo answers stay at the floor; the same answer gets the same verdict; timed rewards repeat;
    splits share nothing; nothing private is shown.
    """
    from sia_flow.admission.check import check_folder
    from sia_flow.admission.findings import admitted

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    findings = check_folder(folder, data)
    passed = admitted(findings)
    if as_json:
        found = [finding.to_json() for finding in findings]
        typer.echo(json.dumps({"task": str(folder), "admitted": passed, "findings": found}, indent=2))
    else:
        for finding in findings:
            code = "" if finding.code == "ok" else f" [{finding.code}]"
            typer.echo(printable(f"{finding.level:4} {finding.check:11} {finding.message}{code}"))
        typer.echo(f"{folder}: {'admitted' if passed else 'not admitted'}")
    if not passed:
        raise typer.Exit(TaskError.exit_code)


@app.command("import")
def take_over(  # noqa: PLR0913 - one parameter an option
    kind: Annotated[Kind, typer.Argument(help="System that the task comes from.")],
    path: Annotated[Path, typer.Argument(help="Its folder; for inspect FILE.py or FILE.py@TASK.")],
    name: Annotated[str | None, typer.Option(help="Name of the task here.")] = None,
    *,
    seed: Annotated[str | None, typer.Option(help="openevolve, shinka: the program to begin with.")] = None,
    metric: Annotated[str | None, typer.Option(help="openevolve: the number that is the reward, or mean.")] = None,
    label: Annotated[str | None, typer.Option(help="sia-agent: the column that is the answer.")] = None,
    public: Annotated[Path | None, typer.Option(help="mle-bench: folder of the prepared public data.")] = None,
    answers: Annotated[Path | None, typer.Option(help="mle-bench: table of the answers.")] = None,
    direction: Annotated[Direction | None, typer.Option(help="mle-bench: where no leaderboard says it.")] = None,
) -> None:
    """Take a task over from another system: tasks/NAME, data/NAME/imported and specs/NAME.yaml.

    Its evaluator runs in the sandbox, in a process of its own. Then check it: `sia-flow task check tasks/NAME`.
    """
    from sia_flow.importers import read_foreign
    from sia_flow.importers.layout import lay_out
    from sia_flow.plan.project import Project

    options = read_foreign.Options(name, seed, metric, label, public, answers, _word(direction))
    found = read_foreign.read(kind.value, path, options)
    folder = lay_out(found, Project.find().root)
    typer.echo(f"tasks/{found.name}: taken over from {kind.value}")
    for note in found.notes:
        typer.echo(printable(f"  note: {note}"))
    typer.echo(f"Next:\n  sia-flow task check {folder.relative_to(folder.parents[1])}")


def _word(direction: Direction | None) -> Literal["maximize", "minimize"] | None:
    return {None: None, Direction.maximize: "maximize", Direction.minimize: "minimize"}[direction]


@app.command("list")
def show(*, as_json: Json = False) -> None:
    """List the tasks of the project: their answers, metric, data sets, and where they came from."""
    from sia_flow.importers.fresh import describe_tasks
    from sia_flow.plan.project import Project

    rows = describe_tasks(Project.find().root)
    if as_json:
        typer.echo(json.dumps({"tasks": rows}, indent=2))
        return
    for row in rows:
        told = row.get("problem") or f"{row['answer']}, {row['metric']}; data {', '.join(row['data'])}; {row['from']}"
        typer.echo(printable(f"{row['name']:20} {told}"))
