"""Where and how a run goes: the fields of a spec that are in no digest, put back where somebody goes on with it.

Invariant: a spec written with its places loads as the experiment that it was written from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from sia_flow.spec.identity import resolved_json
from sia_flow.spec.models import Experiment


def whole_json(experiment: Experiment) -> dict[str, Any]:
    """Return the resolved spec with the fields that change no result, such as servers' addresses and workers."""
    whole: dict[str, Any] = with_places(resolved_json(experiment), experiment)
    return whole


def with_places(plain: Any, source: object) -> Any:
    """Return a resolved spec, or a part of one, with the places that `source`, a loaded spec or its part, has."""
    if isinstance(source, BaseModel) and isinstance(plain, Mapping):
        found = dict(plain)
        for name, field in type(source).model_fields.items():
            value = getattr(source, name)
            if field.exclude and value != field.get_default(call_default_factory=True):
                found[name] = to_jsonable_python(value)
            elif name in plain:
                found[name] = with_places(plain[name], value)
        return found
    if isinstance(source, tuple) and isinstance(plain, list) and len(plain) == len(source):
        return [with_places(*pair) for pair in zip(plain, source, strict=True)]
    return plain
