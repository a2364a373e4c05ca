"""The answers of both agents, as pydantic models and as the JSON Schema that providers hold a model to.

Invariant: every property is required and no other is allowed, which is what providers demand of a strict schema.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sia_flow.lineage.records import Pull

KEPT = ("type", "description", "enum", "const", "properties", "items", "anyOf", "required", "$ref")
TEXT = 1 << 16


class Form(BaseModel):
    """Base of what a model fills in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class WholeFile(Form):
    """A file as it shall be."""

    path: Annotated[str, Field(max_length=100)]
    """Name in the scaffold folder, such as scaffold.py."""
    text: Annotated[str, Field(max_length=TEXT)]
    """The whole new text."""


class Patch(Form):
    """A change of one place in a file."""

    path: Annotated[str, Field(max_length=100)]
    """Name in the scaffold folder."""
    find: Annotated[str, Field(min_length=1, max_length=TEXT)]
    """Text that stands in the file exactly once."""
    replace: Annotated[str, Field(max_length=TEXT)]
    """What takes its place."""


class Change(Form):
    """An edit of the scaffold: whole files, patches, or both; patches come after the files."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    """A short name for tables."""
    summary: Annotated[str, Field(max_length=2000)]
    """What it does and why it should help, in a sentence or two."""
    files: tuple[WholeFile, ...]
    """Files to write whole."""
    patches: tuple[Patch, ...]
    """Places to change."""


class Package(Form):
    """The Meta-Agent's answer."""

    notes: Annotated[str, Field(max_length=4000)]
    """What you built and why, or why nothing better than the reference can be built."""
    scaffold: Change
    """The scaffold, as a change of the reference."""


class Solution(Form):
    """The answer of an agent that works alone."""

    notes: Annotated[str, Field(max_length=4000)]
    """What you built and why, and what you tried."""
    answer: Annotated[str, Field(max_length=TEXT)]
    """The whole program."""


class Ruling(Form):
    """The Feedback-Agent's answer."""

    analysis: Annotated[str, Field(max_length=12_000)]
    """The improvement report: what the evidence says, in Markdown."""
    lever: Pull
    """What to pull: harness edits the scaffold, weights trains the adapter, both does both, stop ends the arm."""
    reason: Annotated[str, Field(min_length=1, max_length=1200)]
    """Why this lever now, in one or two sentences."""
    forecast: float
    """The gain on select that you expect, in the unit of the score; 0 for stop."""
    algorithm: str | None
    """The training algorithm, for weights and both; null lets the table choose."""
    rate: float | None
    """A factor on the algorithm's learning rate, 0.1 to 10; null for 1."""
    edits: tuple[Change, ...]
    """For harness and both: alternative edits, each complete in itself; the best on train is taken."""


@functools.cache
def json_schema(form: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a form, without references and without what providers refuse (lengths, titles, ranges)."""
    whole = form.model_json_schema()
    found = _plain(whole, whole.get("$defs", {}))
    assert isinstance(found, dict)
    return found


def _plain(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_plain(child, definitions) for child in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    kept = {key: node[key] for key in KEPT if key in node}
    for key in ("items", "anyOf"):
        if key in kept:
            kept[key] = _plain(kept[key], definitions)
    if "properties" in kept:
        kept["properties"] = {name: _plain(child, definitions) for name, child in kept["properties"].items()}
        kept |= {"required": list(kept["properties"]), "additionalProperties": False}
    return kept
