"""YAML text to a tree of nodes, with YAML 1.2's plain scalars and nothing that can run code or explode.

Invariant: a document gives at most `MAX_NODES` nodes and `MAX_DEPTH` levels, whatever its anchors say.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import ClassVar, NamedTuple

import yaml
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from sia_flow.spec.nodes import Mark, Node, Scalar
from sia_flow.spec.problems import InvalidSpecError, Problem

MAX_NODES = 20_000
MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"


class Document(NamedTuple):
    """A parsed file: its tree, and the problems that do not keep the rest from being checked."""

    root: Node
    problems: tuple[Problem, ...]


class _Loader(yaml.SafeLoader):
    """Composes nodes with YAML 1.2 scalars: `yes` and `12:30` are text, `1e-3` is a number."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Hashable) -> yaml.Node | None:
        """Compose one node, refusing those that lie too deep."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[arg-type]
        self.depth -= 1
        return node


_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]{1,19}|0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def parse_yaml(text: str, source: str, *, fixed: Mark | None = None) -> Document:
    """Parse one document. `fixed` replaces every position (a value on the command line has no lines).

    Raises InvalidSpecError when the text is no YAML, is empty, or is refused as a whole.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise InvalidSpecError([_syntax_problem(error, text, source, fixed)]) from error
    except yaml.reader.ReaderError as error:
        raise InvalidSpecError([_character_problem(error, text, source, fixed)]) from error
    converter = _Converter(source, fixed)
    if root is None:
        return Document(Node(None, fixed or Mark(source, 1, 1), fixed or Mark(source, 1, 1)), ())
    return Document(converter.node(root), tuple(converter.problems))


def _character_problem(error: yaml.reader.ReaderError, text: str, source: str, fixed: Mark | None) -> Problem:
    before = text[: error.position]
    mark = Mark(source, before.count("\n") + 1, error.position - before.rfind("\n"))
    code = ord(text[error.position])
    return Problem(fixed or mark, "", f"not readable as YAML: the character U+{code:04X} is not allowed; remove it")


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, source: str, fixed: Mark | None) -> Problem:
    place = error.problem_mark or error.context_mark
    if place is None:
        return Problem(fixed or Mark(source), "", f"not readable as YAML: {error.problem}")
    mark = fixed or Mark(source, place.line + 1, place.column + 1)
    lines = text.splitlines()
    line = lines[place.line] if place.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Problem(mark, "", "a tab indents this line; YAML wants spaces")
    if "expected a single document" in str(error.context):
        return Problem(mark, "", "a second document starts here; keep one spec in a file")
    context = f" ({error.context})" if error.context else ""
    return Problem(mark, "", f"not readable as YAML: {error.problem}{context}")


class _Converter:
    """Turns YAML's node graph into a tree; aliases are copied, so their number is bounded."""

    def __init__(self, source: str, fixed: Mark | None) -> None:
        self.source = source
        self.fixed = fixed
        self.problems: list[Problem] = []
        self._count = 0
        self._open: set[int] = set()

    def mark(self, node: yaml.Node) -> Mark:
        return self.fixed or Mark(self.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def node(self, raw: yaml.Node, key: Mark | None = None) -> Node:
        mark = self.mark(raw)
        self._count += 1
        if self._count > MAX_NODES:
            raise InvalidSpecError([Problem(mark, "", f"more than {MAX_NODES} values; aliases count as copies")])
        if id(raw) in self._open:
            raise InvalidSpecError([Problem(mark, "", "an alias refers to a value that contains it")])
        if isinstance(raw, ScalarNode):
            return Node(self._scalar(raw, mark), mark, key or mark)
        self._open.add(id(raw))
        value = self._entries(raw) if isinstance(raw, MappingNode) else self._items(raw)
        self._open.discard(id(raw))
        return Node(value, mark, key or mark)

    def _items(self, raw: yaml.Node) -> tuple[Node, ...]:
        self._check_tag(raw, "seq")
        items = raw.value if isinstance(raw, SequenceNode) else []
        return tuple(self.node(item) for item in items)

    def _entries(self, raw: MappingNode) -> dict[str, Node]:
        self._check_tag(raw, "map")
        entries: dict[str, Node] = {}
        for key, value in raw.value:
            mark = self.mark(key)
            name = self._key(key, mark)
            if name in entries:
                first = entries[name].key
                self.problems.append(Problem(mark, "", f'duplicate key "{name}"; it stands at {first} too'))
            elif name is not None:
                entries[name] = self.node(value, mark)
        return entries

    def _key(self, raw: yaml.Node, mark: Mark) -> str | None:
        if raw.value == "<<":
            self.problems.append(Problem(mark, "", "merge keys (<<) are not read; use extends"))
        elif isinstance(raw, ScalarNode) and raw.tag == _TAG + "str":
            return str(raw.value)
        else:
            self.problems.append(Problem(mark, "", "a key must be text; put it in quotes"))
        return None

    def _check_tag(self, raw: yaml.Node, expected: str) -> None:
        if raw.tag != _TAG + expected:
            tag = raw.tag.replace(_TAG, "!!")
            problem = Problem(self.mark(raw), "", f"the tag {tag} is not allowed; write a plain value")
            self.problems.append(problem)

    def _scalar(self, raw: ScalarNode, mark: Mark) -> Scalar:
        kind, text = raw.tag.removeprefix(_TAG), str(raw.value)
        try:
            if kind == "int":
                return int(text, 0 if text[1:2] in {"x", "o"} else 10)
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            if kind == "bool":
                return ("false", "true").index(text.lower()) == 1
        except ValueError:
            self.problems.append(Problem(mark, "", f'"{text}" is no {raw.tag.replace(_TAG, "!!")}'))
            return None
        if kind == "null":
            return None
        self._check_tag(raw, "str")
        return text
