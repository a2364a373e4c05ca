"""`sia-flow resume`: go on with an experiment as it was last applied, wherever its spec file is by now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_flow.cli.apply import Engine
from sia_flow.cli.lookup import Directory


def command(
    what: Annotated[str, typer.Argument(metavar="NAME|RUN", help="An experiment's name, or one of its runs.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait while another process holds the experiment.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")] = False,
    engine: Annotated[Engine, typer.Option(help="`prefect`, or `local`: no server, plain calls.")] = Engine.prefect,
    again: Annotated[bool, typer.Option("--read-sealed-again", help="Let ended arms go on and read it anew.")] = False,
    directory: Directory = None,
) -> None:
    """Go on with an experiment that was stopped, cancelled or killed: apply its spec again.

    Steps that have a record are not run again, so that it ends in the records of a run that was never stopped.

    Examples: sia-flow resume denoise; sia-flow resume denoise --set budget.generations=10
    """
    from sia_flow.cli.apply import command as apply
    from sia_flow.cli.lookup import experiment_name, open_store
    from sia_flow.cli.workbench import applied_spec
    from sia_flow.errors import SpecError

    project, _ = open_store(directory or (Path(what) if Path(what).is_file() else None))
    name = experiment_name(what)
    spec = applied_spec(project, name)
    if not spec.is_file():
        raise SpecError(f"{name} was not applied in this project: there is nothing to go on with; see sia-flow status")
    apply(spec, overrides, wait=wait, as_json=as_json, engine=engine, again=again)
