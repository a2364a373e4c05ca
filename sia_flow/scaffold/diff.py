"""The unified diff of two scaffolds, in the form that `git apply` reads.

Invariant: applied to the old files the diff gives the new ones, byte for byte; equal ones give no text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

NO_NEWLINE = "\\ No newline at end of file"


def unified_diff(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return the diff from `old` to `new` (path -> text), files in order of their paths."""
    return "".join(_file_diff(path, old.get(path), new.get(path)) for path in sorted({*old, *new}))


def _file_diff(path: str, old: str | None, new: str | None) -> str:
    if old == new:
        return ""
    lines = difflib.unified_diff(
        _lines(old or ""),
        _lines(new or ""),
        fromfile="/dev/null" if old is None else f"a/{path}",
        tofile="/dev/null" if new is None else f"b/{path}",
    )
    header = f"diff --git a/{path} b/{path}\n"
    header += "new file mode 100644\n" if old is None else ""
    header += "deleted file mode 100644\n" if new is None else ""
    return header + "".join(_terminated(lines))


def _lines(text: str) -> list[str]:
    """Split at line feeds alone: `str.splitlines` also splits at form feeds and separators."""
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _terminated(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}\n"
