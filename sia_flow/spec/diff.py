"""What a changed spec means for a run that exists: it goes on, or another one starts.

More seeds, more arms and a larger budget extend a run in place, and so do changes of notes, tracking and
schedule. Anything else changes results: a new run, which shares the steps that stayed the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Effect = Literal["extends", "new run"]

_GROWING_LISTS = ("spec.arms", "spec.seeds")
_NOTES = ("metadata.description", "metadata.labels", "spec.track", "spec.schedule", "spec.approve")
_NO_MONEY = "spec.budget.usd"


@dataclass(frozen=True, slots=True)
class SpecChange:
    """One changed value of a resolved spec, and what it does to the run."""

    path: str
    old: Any
    new: Any
    effect: Effect


def diff_specs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[SpecChange]:
    """Return the changes between two resolved specs, in order of their paths."""
    changes: list[SpecChange] = []
    _compare(old, new, "", changes)
    return sorted(changes, key=lambda change: change.path)


def _compare(old: object, new: object, path: str, changes: list[SpecChange]) -> None:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            _compare(old.get(key), new.get(key), f"{path}.{key}".removeprefix("."), changes)
    elif old != new:
        changes.append(SpecChange(path, old, new, _effect(path, old, new)))


def _effect(path: str, old: object, new: object) -> Effect:
    """Tell whether a change can be taken up by the run that exists."""
    if any(path == note or path.startswith(f"{note}.") for note in _NOTES):
        return "extends"
    if path in _GROWING_LISTS and isinstance(old, list) and isinstance(new, list):
        return "extends" if all(item in new for item in old) else "new run"
    if path.startswith("spec.budget.") and _limit(path, new) > _limit(path, old):
        return "extends"
    return "new run"


def _limit(path: str, value: object) -> float:
    """Return a budget as a number: what is not set is no limit, except money, which is none at all."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Mapping):
        return 0.0  # caps of roles: to drop them all is to have more
    return 0.0 if value is None and path == _NO_MONEY else math.inf
