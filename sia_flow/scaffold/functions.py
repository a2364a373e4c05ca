"""Top-level functions of a source, read and rewritten by their positions in the syntax tree.

Invariant: what is not the function that an edit names stays byte for byte, comments and blank lines included.
"""

from __future__ import annotations

import ast

from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.source import insert_lines, parse, replace_span, segment


def function_names(source: str) -> tuple[str, ...]:
    """Return the names of the top-level functions, in order. Raises ScaffoldError as `parse` does."""
    return tuple(node.name for node in parse(source).body if isinstance(node, ast.FunctionDef))


def function_source(source: str, name: str) -> str | None:
    """Return the text of one top-level function, decorators included; None where it is missing."""
    node = _find(parse(source), name)
    return None if node is None else segment(source, first_line(node), _last_line(node))


def replace_function(source: str, name: str, text: str) -> str:
    """Return `source` with one top-level function replaced by the function in `text`.

    Raises ScaffoldError where `source` has no such function or `text` is not exactly one function.
    """
    _only_function(text)
    node = _find(parse(source), name)
    if node is None:
        raise ScaffoldError(f"scaffold.py: no top-level function {name!r}; there is {_listed(source)}")
    lines = source.split("\n")
    new = text.strip("\n").split("\n")
    return _checked("\n".join([*lines[: first_line(node) - 1], *new, *lines[_last_line(node) :]]))


def add_function(source: str, text: str, *, before: str) -> str:
    """Return `source` with the function in `text` put before the top-level function `before`.

    Raises ScaffoldError where `before` is missing, or a function of the new name is there already.
    """
    name = _only_function(text)
    tree = parse(source)
    if _find(tree, name) is not None:
        raise ScaffoldError(f"scaffold.py: there is a function {name!r} already; replace it instead")
    node = _find(tree, before)
    if node is None:
        raise ScaffoldError(f"scaffold.py: no top-level function {before!r}; there is {_listed(source)}")
    return _checked(insert_lines(source, first_line(node), [*text.strip("\n").split("\n"), "", ""]))


def wrap_return(source: str, name: str, wrapper: str) -> str:
    """Return `source` where function `name` ends in `return wrapper`, with its earlier value for `{}`.

    Raises ScaffoldError where there is no such function or it does not end in `return VALUE`.
    """
    node = _find(parse(source), name)
    last = node.body[-1] if node else None
    if not isinstance(last, ast.Return) or last.value is None:
        raise ScaffoldError(f"scaffold.py: function {name!r} does not end in a return of a value")
    value = ast.get_source_segment(source, last.value) or ""
    return _checked(replace_span(source, last.value, wrapper.replace("{}", value)))


def _find(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    """Return the definition that counts, the last one of that name."""
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[-1] if found else None


def first_line(node: ast.FunctionDef) -> int:
    """Return the line on which a function starts, its decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _last_line(node: ast.FunctionDef) -> int:
    return node.end_lineno or node.lineno


def _only_function(text: str) -> str:
    body = parse(text).body
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
        raise ScaffoldError("the new text must be exactly one top-level function")
    return body[0].name


def _listed(source: str) -> str:
    return ", ".join(function_names(source)) or "none"


def _checked(source: str) -> str:
    parse(source)
    return source
