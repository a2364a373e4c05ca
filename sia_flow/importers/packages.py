"""Which installed packages a foreign evaluator imports, read from its source and never by running it."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping

STOOD_IN = {"openevolve", "shinka", "inspect_ai", "mlebench"}
"""Frameworks whose few names we stand in for."""


def imported_packages(files: Mapping[str, bytes]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the packages that Python files import: those that are installed here, and those that are not."""
    local = {part.removesuffix(".py") for name in files for part in name.split("/")}
    wanted = {top for name, data in files.items() if name.endswith(".py") for top in _imports(data)}
    foreign = sorted(wanted - local - STOOD_IN - sys.stdlib_module_names)
    there = tuple(name for name in foreign if importlib.util.find_spec(name) is not None)
    return there, tuple(name for name in foreign if name not in there)


def _imports(data: bytes) -> Iterator[str]:
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def missing_note(missing: tuple[str, ...]) -> tuple[str, ...]:
    """Return what to say of packages that are not installed."""
    return (f"the evaluator imports {', '.join(missing)}, not installed here: it may fail",) if missing else ()
