"""What a scaffold must be before it may run: a few plain files, one of them `scaffold.py` with `solve(job)`.

Invariant: checking reads the text and never runs it; a broken contract is a list of problems, never an
exception.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.constants import parse_constants
from sia_flow.scaffold.source import parse

MAIN = "scaffold.py"
ENTRY = "solve"
MAX_FILES = 16
MAX_BYTES = 64 << 10
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.(py|md|txt|json)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One way in which a scaffold breaks the contract."""

    code: str
    """`missing`, `path`, `size`, `text`, `syntax`, `solve` or `constants`."""
    path: str
    message: str
    """What is wrong, where, and what to do."""


def check(files: Mapping[str, str]) -> list[Problem]:
    """Return what is wrong with a scaffold (path -> text); nothing where it may run."""
    problems = [*_sizes(files), *_paths(files)]
    if problems:
        return problems
    problems = [problem for path, text in sorted(files.items()) for problem in _file(path, text)]
    return problems or list(_main(files[MAIN]))


def _sizes(files: Mapping[str, str]) -> Iterator[Problem]:
    total = sum(len(text.encode(errors="replace")) for text in files.values())
    if len(files) > MAX_FILES:
        yield Problem("size", "", f"{len(files)} files; keep it to {MAX_FILES}")
    if total > MAX_BYTES:
        yield Problem("size", "", f"{total} bytes in all; keep it to {MAX_BYTES}")


def _paths(files: Mapping[str, str]) -> Iterator[Problem]:
    if MAIN not in files:
        yield Problem("missing", MAIN, f"{MAIN} is missing; it must define {ENTRY}(job) -> str")
    for path in sorted(files):
        if not PLAIN.fullmatch(path):
            shown = path.encode("ascii", "backslashreplace").decode()[:80]
            yield Problem("path", shown, f"{shown!r} is not a plain name ending in .py, .md, .txt or .json")


def _file(path: str, text: str) -> Iterator[Problem]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        yield Problem("text", path, f"{path}: character {error.start} is not valid Unicode")
        return
    if path.endswith(".py"):
        try:
            parse(text, path)
        except ScaffoldError as error:
            yield Problem("syntax", path, str(error))


def _main(source: str) -> Iterator[Problem]:
    found = [node for node in parse(source).body if isinstance(node, ast.FunctionDef) and node.name == ENTRY]
    if not found:
        yield Problem("solve", MAIN, f"{MAIN}: no top-level function {ENTRY}(job); define one")
    elif not _takes_one(found[-1].args):
        line = found[-1].lineno
        yield Problem("solve", MAIN, f"{MAIN}:{line}: write def {ENTRY}(job), one argument")
    try:
        parse_constants(source)
    except ScaffoldError as error:
        yield Problem("constants", MAIN, str(error))


def _takes_one(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    extra = arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults
    return positional == 1 and not extra
