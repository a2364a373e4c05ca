"""`sia-flow explain PATH`: what a key means, what it may be, what it is when left out.

Invariant: everything is read from the JSON Schema, so explanation, editor and validation cannot disagree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

from sia_flow.errors import SpecError
from sia_flow.spec.paths import Path, parse_path, show_path
from sia_flow.spec.schema import Schema, describe, fields, options, schema_at, variant, walk
from sia_flow.spec.suggest import RENAMED, did_you_mean

_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "nothing",
    "object": "map",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_WHOLE = {
    ("arms",): "arms: [SIA-H, {name: mine, levers: [weights]}]",
    ("pool",): "pool: {type: kubernetes, image: registry.example.org/sia-flow:0.1, claim: sia-flow, "
    'store: "s3://group/denoise", secret: agents, cpus: 8, memory: 64GiB, gpus: 1}',
    ("sandbox", "network"): "sandbox: {network: [api.example.org, {url: data.example.org, at: [10.1.2.0/24]}]}",
}
"""Examples of lists and of sections whose keys need each other; they stand for whatever is in them."""


class FieldLine(NamedTuple):
    """One key of a section."""

    name: str
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to know of one key."""

    path: str
    type: str
    required: bool
    default: str | None
    """The default as JSON, arms by their names; none for a section and for a required key."""
    allowed: tuple[str, ...]
    range: str
    forms: str
    """Accepted spellings of a value with a unit."""
    description: str
    example: str
    """One line of YAML, to be put under `spec` (or at the root for the root's keys)."""
    fields: tuple[FieldLine, ...]


def explain(path: str) -> Explanation:
    """Return what there is to know of a key: `budget.usd`, `spec.budget.usd`, `arms[0].name`, `spec`.

    Raises SpecError with the nearest known path when there is no such key.
    """
    try:
        parts = tuple(part for part in parse_path(path) if isinstance(part, str))
    except ValueError as error:
        raise SpecError(str(error)) from error
    schema = schema_at(parts)
    if schema is None:
        raise SpecError(f'no key "{path}" in a spec;{_nearest(parts)} `sia-flow explain spec` lists all sections')
    children = fields(variant(schema, "items").get("items", {})) or fields(schema)
    return Explanation(
        path=show_path(parts),
        type=type_words(schema),
        required=parts[-1] in _required(parts[:-1]),
        default=_default(schema),
        allowed=_allowed(schema),
        range=_range(schema),
        forms=str(variant(schema, "x-forms").get("x-forms", "")),
        description=describe(schema),
        example=_example(parts, schema),
        fields=tuple(_line(name, child) for name, child in children.items()),
    )


def type_words(schema: Schema) -> str:
    """Return the type of a value in words."""
    if variant(schema, "x-forms"):
        return "value with a unit"
    if variant(schema, "items"):
        return f"list of {type_words(variant(schema, 'items')['items'])}"
    if variant(schema, "properties"):
        return "map or short name" if _allowed(schema) else "map"
    if _allowed(schema):
        return "one of the allowed values"
    kinds = (option.get("type") for option in options(schema))
    return _WORDS[next((kind for kind in kinds if isinstance(kind, str) and kind != "null"), "object")]


def _line(name: str, schema: Schema) -> FieldLine:
    return FieldLine(name, type_words(schema), describe(schema))


def _default(schema: Schema) -> str | None:
    if fields(schema) or "default" not in schema:
        return None
    return _json(_brief(schema["default"]))


def _brief(value: object) -> object:
    """Return a list of arms as the list of their names."""
    if not isinstance(value, list):
        return value
    return [item["name"] if isinstance(item, dict) else item for item in value]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _required(parent: Path) -> list[str]:
    schema = schema_at(parent) or {}
    item = variant(schema, "items").get("items", schema)
    required: list[str] = variant(item, "required").get("required", [])
    return required


def _allowed(schema: Schema) -> tuple[str, ...]:
    found = []
    for option in (*options(schema), *options(variant(schema, "items").get("items", {}))):
        found += option.get("enum", [])
        found += [option["const"]] if "const" in option else []
    return tuple(str(value) for value in found)


def _range(schema: Schema) -> str:
    if variant(schema, "x-forms"):
        return ""
    words = [
        f"{text} {option[key]}"
        for option in (*options(schema), *options(variant(schema, "items").get("items", {})))
        for key, text in _BOUNDS.items()
        if key in option
    ]
    return ", ".join(words)


def _example(parts: Path, schema: Schema) -> str:
    """Return a line of YAML that sets the key."""
    value = _value(schema)
    keys = parts[1:] if parts[0] == "spec" and len(parts) > 1 else parts
    for path, example in _WHOLE.items():
        if keys[: len(path)] == path:
            return example
    for key in reversed(keys[1:]):
        value = f"{{{key}: {value}}}"
    return f"{keys[0]}: {value}"


def _value(schema: Schema) -> str:
    if variant(schema, "x-forms"):
        return str(variant(schema, "x-forms")["examples"][0])
    if variant(schema, "items"):
        listed: object = schema.get("default") or next(iter(variant(schema, "examples").get("examples", ())), [])
        return _json(_brief(listed)).replace('"', "")
    if fields(schema):
        name, child = next(iter(fields(schema).items()))
        return f"{{{name}: {_value(child)}}}"
    default = schema.get("default")
    if default not in (None, {}, ""):
        return default if isinstance(default, str) else _json(default)
    examples = variant(schema, "examples").get("examples", ())
    return str((*examples, *_allowed(schema), "...")[0])


def _nearest(parts: Path) -> str:
    known = {show_path(path): path for path in walk()}
    wanted = show_path(parts)
    last = str(parts[-1])
    same = [text for text, path in known.items() if path[-1] in {last, RENAMED.get(last)}]
    if same:
        return f" did you mean {' or '.join(same[:3])}?"
    return did_you_mean(wanted, known)
