"""What every section of a spec shares: frozen, strict, no unknown keys, the description under each field.

Invariant: a model that exists is valid; a rule between fields names the field at fault, so that the loader
can point at its line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

RULE = "sia_flow_rule"
"""Type of the validation error that `rule_error` makes."""

Lever = Literal["harness", "weights"]
SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9+._-]*$"
DIGEST = "^[0-9a-f]{64}$"
FOLDER = "^/[^/].*$"
KUBERNETES_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Slug = Annotated[str, Field(pattern=SLUG, max_length=100, examples=["denoise"])]
Label = Annotated[str, Field(pattern=LABEL, max_length=60)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """Base of every section: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        # One validator is built for the whole tree, when it is first used: a third of `validate` otherwise.
        defer_build=True,
    )


def left_out(value: object) -> Any:
    """Return a default that is validated like a user's value, so that it may be written in short form."""
    return Field(default=value, validate_default=True)


class Issue(NamedTuple):
    """One broken rule: the path below the section that found it, and what to do."""

    path: tuple[str | int, ...]
    message: str


def rule_error(issues: Iterable[Issue]) -> PydanticCustomError:
    """Return the error that carries all broken rules of a section at once."""
    found = tuple(issues)
    text = "; ".join(issue.message for issue in found)
    return PydanticCustomError(RULE, "{text}", {"text": text, "issues": found})


def repeated(values: Iterable[object]) -> list[int]:
    """Return the indices of the values that stood there before."""
    seen: set[object] = set()
    places = []
    for index, value in enumerate(values):
        if value in seen:
            places.append(index)
        seen.add(value)
    return places
