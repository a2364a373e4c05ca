"""The typed block of constants: what a search may turn, with its bounds, in the scaffold's own source.

    # tune: begin
    KNN: int = 5  # 2..30
    DECAY: float = 1.0  # 0.5..20 log
    MODE: str = "plain"  # plain | exemplar
    # tune: end

Invariant: setting a constant changes the text of its value and nothing else, and never leaves its bounds.
"""

from __future__ import annotations

import ast
import difflib
import functools
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.source import insert_lines, parse, replace_span

Value = int | float | str
Kind = Literal["int", "float", "str"]

BEGIN, END = "# tune: begin", "# tune: end"
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"#\s*({NUMBER})\s*\.\.\s*({NUMBER})(\s+log)?\s*")
TYPES: Mapping[str, type] = {"int": int, "float": float, "str": str}


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of the block: a number with bounds, both included, or a word out of several."""

    name: str
    kind: Kind
    value: Value
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """The search moves on a logarithmic scale."""
    choices: tuple[str, ...] = ()
    line: int = 0


def parse_constants(source: str) -> tuple[Constant, ...]:
    """Return the constants of the block in order; none where there is no block.

    Raises ScaffoldError, with the line, for a block that is not well-formed.
    """
    return tuple(constant for constant, _ in _located(source))


def constant_values(source: str) -> dict[str, Value]:
    """Return name -> value of the block's constants. Raises ScaffoldError as `parse_constants` does."""
    return {constant.name: constant.value for constant in parse_constants(source)}


def set_constants(source: str, values: Mapping[str, Value]) -> str:
    """Return `source` with some constants set.

    Raises ScaffoldError for a name that is not there, a value of another type or one out of bounds.
    """
    located = {constant.name: (constant, node) for constant, node in _located(source)}
    for name, value in values.items():
        if name not in located:
            raise ScaffoldError(f"scaffold.py: no constant {name!r}{_hint(name, tuple(located))}")
        _admit(located[name][0], value)
    for name in sorted(values, key=lambda name: -located[name][0].line):
        constant, node = located[name]
        value = float(values[name]) if constant.kind == "float" else values[name]
        if value != constant.value:
            source = replace_span(source, node, _spell(value))
    return source


def add_constant(source: str, declaration: str) -> str:
    """Return `source` with one more line, such as `TRIES: int = 2  # 1..4`, at the end of the block.

    Raises ScaffoldError where there is no block, the name is taken or the declaration is not well-formed.
    """
    bounds = _bounds(_comments(source))
    if bounds is None:
        raise ScaffoldError(f"scaffold.py: no block of constants; put `{BEGIN}` and `{END}` round one")
    edited = insert_lines(source, bounds[1], [declaration])
    parse_constants(edited)
    return edited


@functools.lru_cache(maxsize=256)
def _located(source: str) -> tuple[tuple[Constant, ast.expr], ...]:
    tree, comments = parse(source), _comments(source)
    bounds = _bounds(comments)
    if bounds is None:
        return ()
    found = tuple(
        _constant(node, comments.get(node.end_lineno or node.lineno, ""))
        for node in tree.body
        if bounds[0] < node.lineno < bounds[1]
    )
    names = [constant.name for constant, _ in found]
    for constant, _ in found:
        if names.count(constant.name) > 1:
            raise _at(constant.line, f"constant {constant.name!r} stands there twice; keep one")
    return found


def _bounds(comments: Mapping[int, str]) -> tuple[int, int] | None:
    """Return the lines of the two markers."""
    begins = [line for line, text in comments.items() if text.strip() == BEGIN]
    ends = [line for line, text in comments.items() if text.strip() == END]
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise _at(min(begins + ends), f"the block of constants is one `{BEGIN}` and then one `{END}`")
    return begins[0], ends[0]


@functools.lru_cache(maxsize=256)
def _comments(source: str) -> Mapping[int, str]:
    """Return line -> comment; what only looks like a comment inside a string is none."""
    parse(source)
    tokens = tokenize.generate_tokens(io.StringIO(source, newline="\n").readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def _constant(node: ast.stmt, comment: str) -> tuple[Constant, ast.expr]:
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
        raise _at(node.lineno, "the block of constants holds only lines such as `KNN: int = 5  # 2..30`")
    kind, name, value = ast.unparse(node.annotation), node.target.id, _literal(node.value)
    if kind == "str" and isinstance(value, str):
        choices = tuple(word.strip() for word in comment.removeprefix("#").split("|"))
        constant = Constant(name, "str", value, choices=choices, line=node.lineno)
    elif kind in {"int", "float"} and isinstance(value, int | float):
        low, high, log = _range(name, comment, node.lineno)
        constant = Constant(name, "int" if kind == "int" else "float", value, low, high, log, line=node.lineno)
    else:
        raise _at(node.lineno, f"{name}: {kind} = {value!r} is not an int, float or str of that type")
    _admit(constant, constant.value)
    return constant, node.value


def _range(name: str, comment: str, line: int) -> tuple[float, float, bool]:
    match = RANGE.fullmatch(comment)
    if match is None:
        raise _at(line, f"{name} needs its range as a comment, such as `# 2..30` or `# 0.5..20 log`")
    low, high, log = float(match[1]), float(match[2]), match[3] is not None
    if low >= high or (log and low <= 0):
        raise _at(line, f"{name}: the range {comment!r} must rise, and start above 0 where it is logarithmic")
    return low, high, log


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise _at(node.lineno, "a constant's value must be a plain number or string") from error


def _admit(constant: Constant, value: Value) -> None:
    where = f"{constant.name} = {value!r}"
    wanted: type | tuple[type, ...] = (int, float) if constant.kind == "float" else TYPES[constant.kind]
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise _at(constant.line, f"{where} is not of type {constant.kind}")
    if isinstance(value, str):
        if value not in constant.choices:
            raise _at(constant.line, f"{where} is none of the choices{_hint(value, constant.choices)}")
    elif not (math.isfinite(value) and constant.low <= value <= constant.high):
        raise _at(constant.line, f"{where} is out of range {constant.low:g}..{constant.high:g}")


def _spell(value: Value) -> str:
    return '"' + value + '"' if isinstance(value, str) and value.isidentifier() else repr(value)


def _hint(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(known) or 'none'}"


def _at(line: int, message: str) -> ScaffoldError:
    return ScaffoldError(f"scaffold.py:{line}: {message}")
