"""`sia-flow schema`: the JSON Schema of a spec, so that editors complete and check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file instead.")] = None,
) -> None:
    """Print the JSON Schema of a spec (draft 2020-12)."""
    from sia_flow.files import write_atomic
    from sia_flow.spec.schema import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())
        typer.echo(f"wrote {out}; first line of a spec: # yaml-language-server: $schema={out}")
