"""The JSON Schema of a spec file, for editors and for `explain`: one description of what may be written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from sia_flow.spec.base import Section
from sia_flow.spec.docstrings import attribute_docstrings
from sia_flow.spec.models import Experiment
from sia_flow.spec.paths import Path

Schema = dict[str, Any]

_EXTENDS: Schema = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
    "description": "Files that this one is laid over, relative to it: maps merge, lists are replaced.",
}
_FILE_KEYS: Schema = {
    "extends": _EXTENDS,
    "matrix": {
        "type": "object",
        "properties": {
            "include": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"extends": _EXTENDS, "metadata": {"type": "object"}, "spec": {"type": "object"}},
                },
                "description": "Names and what is different in each: an experiment of its own for every name. What an "
                "entry extends is laid under the file, what it says itself over it.",
            }
        },
        "additionalProperties": {"type": "array", "minItems": 1},
        "description": "Paths and their values: every combination is an experiment of its own.",
    },
}
# A file that extends another, as a whole or in each entry of its include, may leave out what the other says.
_WHOLE_FILE: Schema = {
    "required": ["metadata", "spec"],
    "properties": {
        "metadata": {"required": ["name"]},
        "spec": {"required": ["task"], "properties": {"task": {"required": ["name"]}}},
    },
}
_INCLUDES: Schema = {"required": ["matrix"], "properties": {"matrix": {"required": ["include"]}}}


@cache
def _model_schema() -> Schema:
    schema = Experiment.model_json_schema()
    for node in _objects(schema):
        if isinstance(node.get("title"), str):
            del node["title"]
    _describe(schema)
    schema["properties"].update(_FILE_KEYS)
    return schema


def _describe(schema: Schema) -> None:
    """Put the docstring under each field of a section into its property."""
    sections = {cls.__name__: cls for cls in _below(Section)}
    for name, body in [(Experiment.__name__, schema), *schema["$defs"].items()]:
        texts = attribute_docstrings(sections[name]) if name in sections else {}
        for form in (body, *body.get("anyOf", [])):
            properties = form.get("properties", {})
            for field in properties.keys() & texts.keys():
                properties[field]["description"] = texts[field]


def _below(cls: type[Section]) -> Iterator[type[Section]]:
    for child in cls.__subclasses__():
        yield child
        yield from _below(child)


def json_schema() -> Schema:
    """Return the schema of a spec file (JSON Schema draft 2020-12)."""
    model = _model_schema()
    definitions = {name: dict(body) for name, body in model["$defs"].items()}
    for name in ("ExperimentSpec", "Metadata", "TaskRef"):
        definitions[name].pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sia-flow experiment",
        "description": model["description"],
        "type": "object",
        "properties": model["properties"],
        "additionalProperties": False,
        "if": {"not": {"anyOf": [{"required": ["extends"]}, _INCLUDES]}},
        "then": _WHOLE_FILE,
        "$defs": definitions,
    }


def fields(schema: Schema) -> dict[str, Schema]:
    """Return the keys that a schema's value may have; nothing where it is no map with fixed keys."""
    properties: dict[str, Schema] = variant(schema, "properties").get("properties", {})
    return properties


def variant(schema: Schema, keyword: str) -> Schema:
    """Return the schema itself, or the first of its alternatives, that has a keyword; else an empty one."""
    return next((option for option in options(schema) if keyword in option), {})


def describe(schema: Schema) -> str:
    """Return the description of a value, or of its type, on one line."""
    found = schema if "description" in schema else variant(schema, "description")
    return " ".join(str(found.get("description", "")).split())


def options(schema: Schema) -> Iterator[Schema]:
    """Yield a schema and its alternatives with references resolved."""
    resolved = schema
    if "$ref" in schema:
        resolved = _model_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    yield resolved
    for option in resolved.get("anyOf", []):
        yield from options(option)


def schema_at(path: Path) -> Schema | None:
    """Return the schema of the value at a path, none where there is no such key. Indices may be left out."""
    node: Schema | None = _model_schema()
    for part in path:
        item = variant(node, "items").get("items") if node else None
        if isinstance(part, int):
            node = item
        elif node is not None:
            node = (fields(item) if item else fields(node)).get(part)
    return node


def walk(schema: Schema | None = None, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every key that a spec may have."""
    schema = _model_schema() if schema is None else schema
    item = variant(schema, "items").get("items")
    for name, child in fields(item or schema).items():
        yield (*path, name)
        yield from walk(child, (*path, name))


def _objects(value: object) -> Iterator[Schema]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(child)
