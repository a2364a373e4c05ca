"""All arms against each other: how large each difference is, and which ones hold when so many are looked at.

Invariant: the verdict rests on p-values corrected by Holm's step-down method over the whole family, so that the chance
of a single false claim among them stays below 1 - level.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sia_flow.lineage.results import ArmResult
from sia_flow.report.comparison import Comparison, compare

Effect = Literal["negligible", "small", "medium", "large"]
CONVENTIONS: tuple[tuple[float, Effect], ...] = ((0.2, "negligible"), (0.5, "small"), (0.8, "medium"))
"""Below which standardised difference a name is used (Cohen, Statistical Power Analysis, 1988)."""


@dataclass(frozen=True, slots=True)
class Pairwise:
    """One comparison of a family."""

    comparison: Comparison
    adjusted: float
    """Its p-value by Holm's method: over all comparisons of the family."""

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """What may be claimed after the correction."""
        if self.adjusted >= 1 - self.comparison.level:
            return "undecided"
        return "better" if self.comparison.difference > 0 else "worse"

    @property
    def verdict(self) -> str:
        """The comparison in a sentence, with what the correction leaves of it."""
        found = self.comparison
        said = {
            "better": f"{found.treatment} is better than {found.control}",
            "worse": f"{found.treatment} is worse than {found.control}",
            "undecided": f"{found.treatment} and {found.control} cannot be told apart",
        }[self.outcome]
        size = "" if found.effect is None else f", {effect_name(found.effect)} effect"
        return f"{said}: {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]{size}, p {self.adjusted:.3f}"


def pairwise(
    results: Sequence[ArmResult], split: Literal["select", "sealed"] = "sealed", level: float = 0.95
) -> list[Pairwise]:
    """Return the comparison of every two arms that share a seed, the later arm against the earlier one."""
    names = list(dict.fromkeys(result.arm for result in results))
    pairs = itertools.combinations(names, 2)
    found = [c for first, second in pairs if (c := compare(results, second, first, split, level)) is not None]
    return [Pairwise(c, p) for c, p in zip(found, holm([c.p for c in found]), strict=True)]


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, never falls below the one before it, and is at most 1 (Holm, A
    Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979).
    """
    order = np.argsort(values, kind="stable")
    scaled = np.asarray(values, dtype=np.float64)[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in adjusted]


def effect_name(effect: float) -> Effect:
    """Return the customary word for a standardised difference."""
    return next((name for bound, name in CONVENTIONS if abs(effect) < bound), "large")
