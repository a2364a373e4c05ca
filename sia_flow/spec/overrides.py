"""`--set a.b=c`: one value laid over a spec; its origin in every message is the option itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sia_flow.spec.nodes import Mark, Node, put
from sia_flow.spec.paths import Path, parse_setting
from sia_flow.spec.problems import InvalidSpecError, Problem
from sia_flow.spec.syntax import parse_yaml


class Override(NamedTuple):
    """One assignment: the path from the root, and the value."""

    path: Path
    node: Node


def parse_overrides(texts: Sequence[str]) -> tuple[Override, ...]:
    """Parse `--set` options, values as YAML. Raises InvalidSpecError with all that are malformed."""
    parsed: list[Override] = []
    problems: list[Problem] = []
    for text in texts:
        mark = Mark(f"--set {text}")
        name, equals, value = text.partition("=")
        try:
            path = parse_setting(name.strip())
            node = parse_yaml(value, mark.source, fixed=mark).root
        except ValueError as error:
            problems.append(Problem(mark, "", str(error)))
        except InvalidSpecError as error:
            problems.extend(error.problems)
        else:
            parsed.append(Override(path, node))
            if not equals:
                problems.append(Problem(mark, "", f'needs a value: write --set "{name}=VALUE"'))
    if problems:
        raise InvalidSpecError(problems)
    return tuple(parsed)


def apply_overrides(root: Node, overrides: Sequence[Override]) -> Node:
    """Return the tree with every override put in, in order. Raises InvalidSpecError."""
    problems = []
    for override in overrides:
        try:
            root = put(root, override.path, override.node)
        except ValueError as error:
            problems.append(Problem(override.node.mark, "", str(error)))
    if problems:
        raise InvalidSpecError(problems)
    return root
