"""A document as a tree whose every value knows where it was written.

Invariant: trees are immutable; merging and overriding give new trees in which each value keeps its origin, be
it a line of a file or a command line option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sia_flow.spec.paths import Path, show_path

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """Where something was written: a file with line and column from 1, or an option (line 0)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its origin."""

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    mark: Mark
    key: Mark
    """Where its key stands; the value's own place in a list."""

    def plain(self) -> object:
        """Return the value as plain maps, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return self.value

    def children(self) -> Mapping[str, Node]:
        """Return the entries of a map; nothing for other values."""
        return self.value if isinstance(self.value, Mapping) else {}


def step(node: Node, part: str | int) -> Node | None:
    """Return the child of a map or a list, none where there is none."""
    if isinstance(part, str):
        return node.children().get(part)
    if isinstance(node.value, tuple) and part < len(node.value):
        return node.value[part]
    return None


def find(root: Node, path: Path) -> Node | None:
    """Return the node at a path, none where the path ends early."""
    node: Node | None = root
    for part in path:
        node = step(node, part) if node else None
    return node


def merge(base: Node, over: Node) -> Node:
    """Lay one tree over another: maps merge, everything else is replaced."""
    if not (isinstance(base.value, Mapping) and isinstance(over.value, Mapping)):
        return over
    merged = dict(base.value)
    for key, child in over.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return replace(over, value=merged)


def put(root: Node, path: Path, new: Node, done: Path = ()) -> Node:
    """Return a tree with `new` at `path`; missing maps on the way are made.

    Raises ValueError where the path leads through a scalar or past the end of a list.
    """
    if not path:
        return new
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        items = list(_items(root, part, done))
        items[part] = put(items[part], rest, new, (*done, part))
        return replace(root, value=tuple(items))
    if root.value is not None and not isinstance(root.value, Mapping):
        here = show_path(done)
        raise ValueError(f"{here} holds no keys; set {here} itself")
    empty = Node(None, new.mark, new.mark)
    child = put(root.children().get(part, empty), rest, new, (*done, part))
    return replace(root, value={**root.children(), part: child})


def _items(node: Node, index: int, path: Path) -> tuple[Node, ...]:
    here = show_path(path)
    items = node.value if isinstance(node.value, tuple) else None
    if items is None:
        raise ValueError(f"{here} is no list in the file; set the whole list, such as {here}=[...]")
    if index >= len(items):
        raise ValueError(f"{here} has {len(items)} entries, counted from 0; there is no [{index}]")
    return items
