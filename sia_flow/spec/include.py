"""`matrix.include`: experiments of one file that differ in more than single values, each with layers of its own.

Invariant: what the file says holds for all of them, over what an entry extends and under what the entry itself says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sia_flow.spec.base import SLUG
from sia_flow.spec.extends import read_extended
from sia_flow.spec.matrix import MAX_POINTS, name_of, named, refusal
from sia_flow.spec.nodes import Node, merge
from sia_flow.spec.problems import Problem
from sia_flow.spec.suggest import did_you_mean

KEYS = ("extends", "metadata", "spec")


class Layer(NamedTuple):
    """One entry: its name, what it extends (none: nothing), what it says itself."""

    name: str
    base: Node | None
    own: Node


class Split(NamedTuple):
    """A tree without its include, the layers, and problems that do not keep the rest from being checked."""

    root: Node
    layers: tuple[Layer, ...]
    problems: tuple[Problem, ...]


def split_include(root: Node) -> Split:
    """Take `matrix.include` out of a tree, and read what its entries extend. Raises InvalidSpecError."""
    matrix = root.children().get("matrix")
    include = matrix.children().get("include") if matrix else None
    if matrix is None or include is None:
        return Split(root, (), ())
    entries = include.children()
    if not entries or len(entries) > MAX_POINTS:
        words = f"map names to what is different in each, at most {MAX_POINTS}, such as small: {{spec: {{...}}}}"
        raise refusal(include, "matrix.include", words)
    layers, problems = [], list[Problem]()
    for name, entry in entries.items():
        layer, found = _layer(name, entry)
        layers.append(layer)
        problems += found
    rest = {key: node for key, node in matrix.children().items() if key != "include"}
    kept = {key: node for key, node in root.children().items() if key != "matrix"}
    if rest:
        kept["matrix"] = replace(matrix, value=rest)
    return Split(replace(root, value=kept), tuple(layers), tuple(problems))


def lay_layers(root: Node, layers: Sequence[Layer]) -> list[Node]:
    """Return one tree for each layer, named after it; the tree alone where there is none. Raises InvalidSpecError."""
    name, trees = name_of(root), []
    for layer in layers:
        if not isinstance(name, str) or name_of(layer.own) is not None:
            words = "the file's metadata.name and the entry's own name make the experiment's: set the first, no other"
            raise refusal(layer.own, f"matrix.include.{layer.name}", words)
        tree = merge(merge(layer.base, root) if layer.base else root, layer.own)
        trees.append(named(tree, f"{name}-{layer.name}"))
    return trees or [root]


def _layer(name: str, entry: Node) -> tuple[Layer, Sequence[Problem]]:
    """Return an entry as a layer, with the problems of the files that it extends."""
    place = f"matrix.include.{name}"
    if not re.match(SLUG, name):
        raise refusal(replace(entry, mark=entry.key), place, "name it by lower-case letters, digits and single hyphens")
    if not isinstance(entry.value, Mapping):
        raise refusal(entry, place, f"is no map; it may have the keys {', '.join(KEYS)}")
    for key, node in entry.value.items():
        if key not in KEYS:
            hint = did_you_mean(key, KEYS)
            words = f"no such key here;{hint} there are {', '.join(KEYS)}"
            raise refusal(replace(node, mark=node.key), f"{place}.{key}", words)
    base, problems = read_extended(entry.value.get("extends"), Path(entry.mark.source).parent)
    own = {key: node for key, node in entry.value.items() if key != "extends"}
    return Layer(name, base, replace(entry, value=own)), problems
