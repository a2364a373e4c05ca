"""`sia-flow schema`: the JSON Schema of a spec, so that editors complete and check it, or the same for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file instead.")] = None,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables of all keys instead.")] = False,
) -> None:
    """Print the JSON Schema of a spec (draft 2020-12)."""
    from sia_flow.files import write_atomic
    from sia_flow.spec.reference import spec_reference
    from sia_flow.spec.schema import json_schema

    text = spec_reference() if markdown else json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())
        hint = "" if markdown else f"; first line of a spec: # yaml-language-server: $schema={out}"
        typer.echo(f"wrote {out}{hint}")
