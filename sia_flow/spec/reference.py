"""Every key of a spec as Markdown, a table a section: what the site shows and `sia-flow schema --markdown` prints.

Invariant: each key that `walk` yields stands in exactly one table, in the words of `explain`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sia_flow.spec.explain import Explanation, explain
from sia_flow.spec.paths import Path, show_path
from sia_flow.spec.schema import walk

INTRODUCTION = """# Spec reference

Written from the models that check a spec, so it cannot say anything else than `sia-flow validate` does. The same for
one key in a terminal: `sia-flow explain spec.budget.usd`. For editors: `sia-flow schema --out sia-flow.schema.json`.

A value with a unit is written `30m`, `2GiB` or `$5`. A key without a default is required; *not set* means that the text
says what then holds."""

HEADS = ("key", "type", "default", "allowed", "meaning")


def spec_reference() -> str:
    """Return the whole page."""
    tables: dict[Path, list[Path]] = {}
    for path in walk():
        tables.setdefault(path[:-1], []).append(path)
    parts = [INTRODUCTION, *(part for section, keys in tables.items() for part in _section(section, keys))]
    return "\n\n".join(parts) + "\n"


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a Markdown table of plain text cells; bars and line ends cannot break out of their cell."""
    lines = [heads, tuple("---" for _ in heads), *(tuple(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _section(section: Path, keys: list[Path]) -> Iterator[str]:
    """Yield the heading of a section, what it is, and the table of its keys."""
    yield f"## `{show_path(section)}`" if section else "## The file"
    if section:
        yield explain(show_path(section)).description
    yield table(HEADS, (_row(explain(show_path(key))) for key in keys))


def _row(found: Explanation) -> tuple[str, ...]:
    default = "required" if found.required else f"`{found.default}`" if found.default else ""
    if found.default == "null":
        default = "not set"
    allowed = ", ".join(f"`{value}`" for value in found.allowed)
    said = "; ".join(part for part in (allowed, found.range, found.forms) if part)
    return f"`{found.path}`", found.type, default, said, found.description
