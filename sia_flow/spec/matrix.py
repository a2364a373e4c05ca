"""`matrix`: one file, several experiments. Every combination of values is one, with its own name.

Invariant: names depend on the paths and values alone, so the same matrix names the same experiments for ever.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sia_flow.spec.nodes import Node, put
from sia_flow.spec.overrides import Override
from sia_flow.spec.paths import Path, parse_setting, show_path
from sia_flow.spec.problems import InvalidSpecError, Problem

MAX_POINTS = 256


class Axis(NamedTuple):
    """One varied path with its values."""

    path: Path
    values: tuple[Node, ...]


def split_matrix(root: Node) -> tuple[Node, tuple[Axis, ...]]:
    """Return the tree without its matrix, and the matrix's axes. Raises InvalidSpecError."""
    entries = dict(root.children())
    matrix = entries.pop("matrix", None)
    if matrix is None:
        return root, ()
    if not isinstance(matrix.value, Mapping):
        raise refusal(matrix, "matrix", "map paths to lists of values, such as task.mode: [sia, guarded]")
    axes = tuple(_axis(name, node) for name, node in matrix.value.items())
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MAX_POINTS:
        raise refusal(matrix, "matrix", f"gives {count} experiments; at most {MAX_POINTS} fit in one file")
    return replace(root, value=entries), axes


def expand_matrix(root: Node, axes: Sequence[Axis], overridden: Sequence[Override]) -> list[Node]:
    """Return one tree for each combination, the last axis varying fastest.

    An axis whose path is set on the command line is dropped: the option wins.
    """
    fixed = {override.path for override in overridden}
    axes = [axis for axis in axes if axis.path not in fixed]
    labels = _labels([axis.path for axis in axes])
    trees = [_point(root, axes, labels, values) for values in itertools.product(*(axis.values for axis in axes))]
    names = [name for name in map(name_of, trees) if isinstance(name, str)]
    if len(set(names)) < len(names):
        first = axes[0].values[0]
        raise refusal(first, "matrix", "two combinations get the same name; remove the value that repeats")
    return trees


def refusal(node: Node, path: str, message: str) -> InvalidSpecError:
    """Return the error that places a message at a value."""
    return InvalidSpecError([Problem(node.mark, path, message)])


def _axis(name: str, node: Node) -> Axis:
    try:
        path = parse_setting(name)
    except ValueError as error:
        raise refusal(replace(node, mark=node.key), "matrix", str(error)) from error
    if not isinstance(node.value, tuple) or not node.value:
        raise refusal(node, f"matrix.{name}", "give a list with at least one value")
    return Axis(path, node.value)


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return a short label for each path: its last key, or all of it where two end alike."""
    last = [str(path[-1]) for path in paths]
    return [
        _slug(name if last.count(name) == 1 else show_path(path[1:])) for name, path in zip(last, paths, strict=True)
    ]


def _slug(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "none"


def named(root: Node, name: str) -> Node:
    """Return a tree that has a name with another one, at the old one's place."""
    mark = root.children()["metadata"].children()["name"].mark
    return put(root, ("metadata", "name"), Node(name, mark, mark))


def name_of(root: Node) -> object:
    """Return the experiment's name as it is written, None where it has none."""
    metadata = root.children().get("metadata")
    name = metadata.children().get("name") if metadata else None
    return name.value if name else None


def _point(root: Node, axes: Sequence[Axis], labels: Sequence[str], values: Sequence[Node]) -> Node:
    """Return the tree of one combination, its name extended by the labels and values."""
    name = name_of(root)
    for axis, value in zip(axes, values, strict=True):
        try:
            root = put(root, axis.path, value)
        except ValueError as error:
            raise refusal(value, "matrix", str(error)) from error
    if not isinstance(name, str) or not axes:
        return root
    parts = [f"{label}-{_slug(value.plain())}" for label, value in zip(labels, values, strict=True)]
    return named(root, "-".join([name, *parts]))
