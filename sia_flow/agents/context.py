"""A decision's features as a vector that rewards of any unit share, for a regression of gains on it.

Invariant: every entry is free of units, bounded, and computed from what the decision's record holds, so that a
stored row and a decision that is still to be made give vectors of one meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sia_flow.lineage.ledger import LedgerRow

Vector = NDArray[np.float64]

TERMS = ("one", "headroom", "skew", "valid", "dead", "spread", "stalled", "banked", "refused")
"""Names of the entries, in order."""
BOUND = 3.0
"""Entries and effects beyond it count as it: one wild figure must not carry a regression."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A pull as the regression sees it, in units of the rewards' deviation."""

    action: str
    context: Vector
    """[D]"""
    gain: float
    noise: float
    """Standard error of the gain."""


def unit_of(features: Mapping[str, float]) -> float:
    """Return the deviation of the train rewards, or a select gain's standard error where that is larger."""
    return max(features.get("sd", 0.0), features.get("select_noise", 0.0))


def context_of(features: Mapping[str, float], action: str) -> Vector | None:
    """Return the vector [D] for an action; None where the features are not there or nothing varies."""
    unit = unit_of(features)
    if unit <= 0 or "upper" not in features:
        return None
    own = "weights" if action.startswith("weights") else "harness"
    entries = (
        1.0,
        (features["upper"] - features["mean"]) / unit,
        features["skew"],
        features["valid"],
        features["dead"],
        features["spread"] / unit,
        features[f"{own}_stalled"],
        features[f"{own}_banked"] / unit,
        features["refused_in_a_row"] / BOUND,
    )
    return np.clip(np.asarray(entries, dtype=np.float64), -BOUND, BOUND)


def effects_of(rows: Iterable[LedgerRow]) -> list[Effect]:
    """Return the rows that can be learnt from, each measurement once.

    One measurement may stand in several rows: a spec that differs in its gate alone makes generations of its own
    from the same steps.
    """
    found: dict[object, Effect] = {}
    for row in rows:
        context = context_of(row.features, row.action)
        if context is None:
            continue
        unit = unit_of(row.features)
        gain = float(np.clip(row.gain / unit, -BOUND, BOUND))
        key = (row.action, row.seed, row.gain, row.gain_se, tuple(sorted(row.features.items())))
        found.setdefault(key, Effect(row.action, context, gain, row.gain_se / unit))
    return list(found.values())
