"""Which of a role's models takes the next task: drawn by weight, and where the spec is thrifty, by success and price.

Invariant: the draw depends on the models, on what earlier decisions came to, and on the seed; not on the budget left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sia_flow.canonical import Json, derive_seed
from sia_flow.providers.prices import MILLION, Rate
from sia_flow.providers.settings import Choice


@dataclass(frozen=True, slots=True)
class Standing:
    """What a model's earlier decisions came to."""

    pulls: int = 0
    accepted: int = 0

    @property
    def rate(self) -> float:
        """Share of its decisions that were accepted, by Laplace's rule of succession."""
        return (1 + self.accepted) / (2 + self.pulls)


def chances(
    choices: Sequence[Choice], rates: Sequence[Rate | None], standings: Sequence[Standing], thrift: float
) -> list[float]:
    """Return each model's probability: weight, or weight x acceptance / price^thrift where thrift is above 0.

    A price is that of a task of the usual shape, nine tokens read for one written. Where one price is not known or is
    zero, no price counts.
    """
    scores = [choice.weight for choice in choices]
    if thrift > 0:
        costs = [rate.bound(9 * MILLION, MILLION) if rate else 0.0 for rate in rates]
        costs = costs if all(costs) else [1.0] * len(costs)
        scores = [s * st.rate / c**thrift for s, st, c in zip(scores, standings, costs, strict=True)]
    total = sum(scores)
    return [score / total for score in scores]


def drawn(probabilities: Sequence[float], seed: Json) -> int:
    """Return the index that a seed draws."""
    return Random(derive_seed("model", seed)).choices(range(len(probabilities)), probabilities)[0]
