"""Python source as text with positions: parsed whole, edited by spans, so that nothing else moves.

Invariant: lines end in a line feed alone and columns count bytes, as `ast` counts them; a source with
carriage returns is refused instead of being renumbered.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence

from sia_flow.errors import ScaffoldError


@functools.lru_cache(maxsize=256)
def parse(source: str, path: str = "scaffold.py") -> ast.Module:
    """Return the syntax tree of `source`, to be read only: equal sources share one. Raises ScaffoldError."""
    if "\r" in source:
        line = source[: source.index("\r")].count("\n") + 1
        raise ScaffoldError(f"{path}:{line}: carriage return; end lines with a line feed alone")
    try:
        return ast.parse(source, path)
    except SyntaxError as error:
        raise ScaffoldError(f"{path}:{error.lineno or 1}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ScaffoldError(f"{path}: cannot be parsed ({type(error).__name__}: {error})") from error


def replace_span(source: str, node: ast.expr | ast.stmt, text: str) -> str:
    """Return `source` with the text of one node replaced, everything else byte for byte."""
    lines = source.encode().split(b"\n")
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head = lines[first][: node.col_offset]
    tail = lines[last][node.end_col_offset :]
    return b"\n".join([*lines[:first], head + text.encode() + tail, *lines[last + 1 :]]).decode()


def insert_lines(source: str, before: int, new: Sequence[str]) -> str:
    """Return `source` with whole lines put before line `before` (from 1); one past the end appends them."""
    lines = source.split("\n")
    return "\n".join([*lines[: before - 1], *new, *lines[before - 1 :]])


def segment(source: str, first: int, last: int) -> str:
    """Return the lines `first` to `last` of `source`, both included, counted from 1."""
    return "\n".join(source.split("\n")[first - 1 : last])
