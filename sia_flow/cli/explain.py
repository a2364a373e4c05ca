"""`sia-flow explain`: one key of a spec, in words."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sia_flow.spec.explain import Explanation


def command(
    path: Annotated[str, typer.Argument(help="A key, such as budget.usd; nothing lists all sections.")] = "spec",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a key of a spec means, what it may be, and what it is when left out."""
    from sia_flow.spec.explain import explain

    found = explain(path)
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else render(found))


def render(found: Explanation) -> str:
    """Return an explanation as lines of text."""
    needed = "required" if found.required else f"default {found.default}" if found.default else ""
    facts = {
        "values": ", ".join(found.allowed),
        "range": found.range,
        "forms": found.forms,
        "example": found.example,
    }
    lines = [
        f"{found.path}: {', '.join(part for part in (found.type, needed) if part)}",
        f"  {found.description}",
    ]
    lines += [f"  {name:8} {text}" for name, text in facts.items() if text]
    width = max((len(field.name) for field in found.fields), default=0)
    if found.fields:
        lines += ["  keys"] + [f"    {field.name:{width}}  {field.description}" for field in found.fields]
    return "\n".join(lines)
