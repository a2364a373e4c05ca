"""Paths into a spec: `spec.arms[0].name` as people write it, a tuple of keys and indices as code walks it."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

ROOT_KEYS = ("apiVersion", "kind", "metadata", "spec", "extends", "matrix")
_PART = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d{1,6})\]", re.ASCII)


def parse_path(text: str) -> Path:
    """Return the parts of a dotted path, from the root: `seeds[0]` means `spec.seeds[0]`.

    Raises ValueError when the text is no path.
    """
    parts: list[str | int] = []
    place = 0
    while place < len(text):
        match = _PART.match(text, place)
        if match is None or (place == 0) == text.startswith((".", "["), place):
            break
        parts.append(match[1] if match[1] is not None else int(match[2]))
        place = match.end()
    if not parts or place < len(text):
        raise ValueError(f'"{text}" is no path; write for example budget.generations or arms[0].name')
    return rooted(tuple(parts))


def parse_setting(text: str) -> Path:
    """Return the path of a value that an option or a matrix may set. Raises ValueError."""
    path = parse_path(text)
    if path[0] in {"extends", "matrix"}:
        raise ValueError(f"{path[0]} is read from the file alone; it cannot be set")
    return path


def rooted(path: Path) -> Path:
    """Return the path from the root of the file; what starts at no root key stands under `spec`."""
    return path if path[:1] and path[0] in ROOT_KEYS else ("spec", *path)


def show_path(path: Path) -> str:
    """Return the path as people write it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
