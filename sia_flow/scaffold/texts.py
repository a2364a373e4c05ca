"""Named texts of a scaffold: a top-level `NAME: str = ...` outside of the block of constants.

Invariant: whatever the text holds, it stands in the source as string literals, one a line, so that a text
that a model wrote can be quoted and never runs.
"""

from __future__ import annotations

import ast

from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.functions import first_line
from sia_flow.scaffold.source import insert_lines, parse, replace_span


def defined_names(source: str) -> frozenset[str]:
    """Return what is assigned or defined at top level. Raises ScaffoldError as `parse` does."""
    body = parse(source).body
    definitions = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return frozenset(definitions | {target.id for node in body for target in _targets(node)})


def read_text(source: str, name: str) -> str | None:
    """Return the text of a top-level assignment of one string; None where there is none of that name."""
    found = _assignment(source, name)
    value = found.value if found else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def set_text(source: str, name: str, text: str, *, before: str) -> str:
    """Return `source` with `NAME: str` set to `text`; a new one goes before the top-level function `before`.

    Raises ScaffoldError where the function is missing.
    """
    spelt = f"{name}: str = {_literal(text)}"
    found = _assignment(source, name)
    if found is not None:
        return replace_span(source, found, spelt)
    for node in parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == before:
            return insert_lines(source, first_line(node), [*f"{name}: str = {_literal(text)}".split("\n"), "", ""])
    raise ScaffoldError(f"scaffold.py: no top-level function {before!r} to put {name} before")


def _literal(text: str) -> str:
    """Spell a text as adjacent literals, one a line."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return "\n".join(["(", *(f"    {line!r}" for line in lines if line), ")"]) if text else '""'


def _assignment(source: str, name: str) -> ast.Assign | ast.AnnAssign | None:
    found = [
        node
        for node in parse(source).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and [target.id for target in _targets(node)] == [name]
    ]
    return found[-1] if found else None


def _targets(node: ast.stmt) -> list[ast.Name]:
    if isinstance(node, ast.AnnAssign):
        return [node.target] if isinstance(node.target, ast.Name) else []
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target for target in targets if isinstance(target, ast.Name)]
