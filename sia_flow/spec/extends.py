"""`extends`: a spec file laid over others. Maps merge, all else is replaced, the extending file wins.

Invariant: a file is never read while it is being read, so a circle of files ends with its chain named.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sia_flow.spec.nodes import Mark, Node, merge
from sia_flow.spec.problems import InvalidSpecError, Problem
from sia_flow.spec.suggest import did_you_mean
from sia_flow.spec.syntax import Document, parse_yaml

MAX_BYTES = 1 << 20


def read_spec(path: Path, origin: Mark | None = None, chain: tuple[Path, ...] = ()) -> Document:
    """Read a file and all that it extends into one tree. Raises InvalidSpecError."""
    origin = origin or Mark(str(path))
    chain = (*chain, path)
    if path.resolve() in [link.resolve() for link in chain[:-1]]:
        circle = " -> ".join(str(link) for link in chain)
        raise InvalidSpecError([Problem(origin, "extends", f"the files extend each other in a circle: {circle}")])
    document = parse_yaml(_read_text(path, origin), str(path))
    root, problems = document
    if not isinstance(root.value, dict):
        message = "is empty" if root.value is None else "is no map"
        raise InvalidSpecError([Problem(root.mark, "", f"the file {message}; a spec has the keys metadata and spec")])
    entries = dict(root.value)
    merged, found = read_extended(entries.pop("extends", None), path.parent, chain)
    root = replace(root, value=entries)
    return Document(merge(merged, root) if merged else root, problems + found)


def read_extended(
    extends: Node | None, folder: Path, chain: tuple[Path, ...] = ()
) -> tuple[Node | None, tuple[Problem, ...]]:
    """Read the files that a value of `extends` names, relative to a folder, into one tree; none where it names none.

    Raises InvalidSpecError.
    """
    merged: Node | None = None
    problems: tuple[Problem, ...] = ()
    for reference, mark in _references(extends):
        target = Path(os.path.normpath(folder / reference))
        base, found = read_spec(target, mark, chain)
        merged = merge(merged, base) if merged else base
        problems += found
    return merged, problems


def _references(extends: Node | None) -> list[tuple[str, Mark]]:
    """Return the paths that a file extends, with their places."""
    if extends is None:
        return []
    nodes = extends.value if isinstance(extends.value, tuple) else (extends,)
    found = [(node.value, node.mark) for node in nodes if isinstance(node.value, str) and node.value]
    if len(found) != len(nodes):
        message = "name one file, or a list of files, relative to this one"
        raise InvalidSpecError([Problem(extends.mark, "extends", message)])
    return found


def _read_text(path: Path, origin: Mark) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}{_neighbours(path)}"
        raise InvalidSpecError([Problem(origin, "", message)]) from error
    if len(data) > MAX_BYTES:
        raise InvalidSpecError([Problem(origin, "", f"{path} is larger than {MAX_BYTES} bytes; it is no spec")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"byte {error.start}"
        raise InvalidSpecError([Problem(origin, "", f"{path} is not UTF-8 text ({place})")]) from error


def _neighbours(path: Path) -> str:
    """Return the specs beside a missing path, as a hint."""
    try:
        folder = path if path.is_dir() else path.parent
        names = sorted(str(found) for found in folder.glob("*.y*ml"))
    except OSError:
        # A name that is too long.
        names = []
    if not names:
        return ""
    hint = did_you_mean(str(path), names)
    return f";{hint} Specs in {folder}: {', '.join(names[:10])}"
