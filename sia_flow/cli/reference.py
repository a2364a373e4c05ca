"""Every command as Markdown, read from the commands themselves: usage, what it does, its arguments and options.

Invariant: every command of the table, and every verb of a group, has a heading of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sia_flow.cli.main import COMMANDS, load_command
from sia_flow.spec.reference import table

INTRODUCTION = """# Command reference

Written from the commands; `sia-flow NAME --help` says the same. What the exit codes mean, and how the verbs are used
together, stands in [operations](../operations.md)."""

HEADS = ("argument or option", "default", "meaning")


def command_reference() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for name, entry in COMMANDS.items():
        parts += _command(f"sia-flow {name}", load_command(name, entry))
    return "\n\n".join(parts) + "\n"


def _command(path: str, command: Any) -> Iterator[str]:
    """Yield the parts of one command; of a group, those of its verbs after it."""
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join(command.get_usage(context).removeprefix("Usage:").split())
    yield f"## `{path}`"
    yield f"```\n{usage}\n```"
    yield str(command.help or "")
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        yield table(HEADS, iter(rows))
    for verb, below in getattr(command, "commands", {}).items():
        yield from _command(f"{path} {verb}", below)


def _row(parameter: Any) -> tuple[str, ...]:
    named = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name.upper()]
    names = ", ".join(f"`{name}`" for name in (*named, *parameter.secondary_opts))
    default = "required" if parameter.required else _default(parameter.default)
    return names, default, str(getattr(parameter, "help", None) or "")


def _default(value: object) -> str:
    if value is None or value in (False, (), []):
        return ""
    return f"`{getattr(value, 'value', value)}`" if value is not True else "on"
