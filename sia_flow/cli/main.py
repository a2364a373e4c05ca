"""The `sia-flow` command: a table of commands, each imported when it is called.

Invariant: `--help` imports no command, and an error that sia-flow raises on purpose is one message on stderr
and an exit code, never a traceback (unless SIA_FLOW_DEBUG=1).
"""

from __future__ import annotations

import importlib
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand

from sia_flow import __version__
from sia_flow.cli.text import printable
from sia_flow.errors import InfrastructureError, SiaFlowError


class Entry(NamedTuple):
    """One command: `module:function`, and its line in `--help`."""

    target: str
    help: str


COMMANDS = {
    "init": Entry("sia_flow.cli.init:command", "Lay out a project in a folder: specs, tasks, flows."),
    "doctor": Entry("sia_flow.cli.doctor:command", "Say what this machine can run, and what it lacks."),
    "prepare": Entry("sia_flow.cli.prepare:command", "Make a task's data sets and base models ready."),
    "publish": Entry("sia_flow.cli.publish:command", "Put an experiment's checkpoints under DVC."),
    "validate": Entry("sia_flow.cli.validate:command", "Check specs; every problem with its line."),
    "explain": Entry("sia_flow.cli.explain:command", "Say what a key of a spec means and may be."),
    "schema": Entry("sia_flow.cli.schema:command", "Print the JSON Schema of a spec, for editors."),
    "task": Entry("sia_flow.cli.task:app", "Make, check, import and list tasks."),
    "plan": Entry("sia_flow.cli.plan:command", "Show what a spec would run, what is done, what it costs."),
    "apply": Entry("sia_flow.cli.apply:command", "Run a spec, or go on where it stopped."),
    "status": Entry("sia_flow.cli.status:command", "Show how far the runs are."),
    "logs": Entry("sia_flow.cli.logs:command", "Show what happened, line by line; --follow goes on."),
    "show": Entry("sia_flow.cli.show:command", "Show a run, or one generation of it."),
    "diff": Entry("sia_flow.cli.diff:command", "Show what is different between two generations."),
    "stop": Entry("sia_flow.cli.stop:command", "Stop a run at its next safe point."),
    "approve": Entry("sia_flow.cli.approve:command", "Allow a pull that waits for a person, or refuse it."),
    "resume": Entry("sia_flow.cli.resume:command", "Go on with a run, as it was last applied."),
    "fork": Entry("sia_flow.cli.fork:command", "Start a new experiment from a generation."),
    "compare": Entry("sia_flow.cli.compare:command", "Compare the arms of an experiment."),
    "ledger": Entry("sia_flow.cli.ledger:command", "List every pull of a lever, and what it gained."),
    "report": Entry("sia_flow.cli.report:command", "Write an experiment as one HTML page."),
    "reproduce": Entry("sia_flow.cli.reproduce:command", "Make a run again and compare, digest by digest."),
    "export": Entry("sia_flow.cli.export:command", "Write an arm's best agent as a folder that runs by itself."),
    "fsck": Entry("sia_flow.cli.fsck:command", "Check every digest and link of the store; mend what can be."),
    "gc": Entry("sia_flow.cli.gc:command", "Remove what no record needs."),
    "store": Entry("sia_flow.cli.store:command", "Carry the records to a bucket or a share, and back."),
    "track": Entry("sia_flow.cli.track:command", "Rebuild MLflow from the store."),
    "deploy": Entry("sia_flow.cli.deploy:command", "Hand specs to a Prefect server, with their schedules."),
    "ui": Entry("sia_flow.cli.ui:command", "Serve the Prefect and MLflow pages of this project."),
}


class LazyCommand(TyperCommand):
    """A command of the table: a name and a help line, until it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help, rich_markup_mode=None)
        self.entry = entry

    # Some versions of typer bring their own click, so its Context has no public name.
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Import the command and let it read its arguments."""
        return load_command(str(self.name), self.entry).make_context(*args, **kwargs)


def load_command(name: str, entry: Entry) -> Any:
    """Import a command's function, or the group of one with verbs. Raises SiaFlowError that says what is missing."""
    module, _, attribute = entry.target.partition(":")
    try:
        function: Callable[..., object] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise SiaFlowError(_missing(name, module, str(error.name))) from error
    if isinstance(function, typer.Typer):
        group = typer.main.get_group(function)
        group.name = name
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(function)
    command = typer.main.get_command(app)
    if not isinstance(command, TyperCommand):
        raise TypeError(f"{entry.target} is no single command")
    return command


def _missing(name: str, module: str, absent: str) -> str:
    if absent == module:
        return f"this installation has no command {name} ({module} is not in it); reinstall sia-flow"
    extra = "; pip install 'sia-flow[all]'" if not absent.startswith("sia_flow") else "; reinstall sia-flow"
    return f"{name} needs the module {absent}, which is not installed{extra}"


def _show_version(value: bool) -> None:  # noqa: FBT001 - the form that typer calls
    if value:
        typer.echo(f"sia-flow {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run self-improving AI experiments from YAML specs: scaffold and weights, on Prefect, MLflow and DVC."""


def build_app() -> Any:
    """Return the command group with every command of the table."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback()(_root)
    group = typer.main.get_group(app)
    for name, entry in COMMANDS.items():
        group.add_command(LazyCommand(name, entry))
    return group


def main() -> NoReturn:
    """Run the command line and exit."""
    debug = os.environ.get("SIA_FLOW_DEBUG") == "1"
    # pydantic would read the metadata of every installed package to look for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        build_app().main(prog_name="sia-flow")
    except SiaFlowError as error:
        if debug:
            raise
        typer.echo(printable(str(error)), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except SystemExit as end:
        # Typer ends in silence on every broken pipe, which is right for that of the output alone.
        if isinstance(end.__context__, BrokenPipeError) and _heard():
            place = traceback.extract_tb(end.__context__.__traceback__)[-1]
            text = f"a process that was written to is gone ({place.filename}:{place.lineno})"
            typer.echo(f"{text}; run the same command again", err=True)
            sys.exit(InfrastructureError.exit_code)
        raise
    finally:
        # An interrupt in code made from text (an import's dataclass) is remembered until the next such code has run,
        # and `python -m` would end by SIGINT, whatever the exit code. A named tuple is such code.
        NamedTuple("Forgotten", [])
    sys.exit(0)


def _heard() -> bool:
    """Say whether somebody still reads what is printed."""
    poll = select.poll()
    for handle in (1, 2):
        poll.register(handle, 0)
    return not poll.poll(0)


if __name__ == "__main__":
    main()
