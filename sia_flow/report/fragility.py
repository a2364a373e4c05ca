"""How fragile a joint optimum is: what is lost when its scaffold or its weights are swapped for a neighbour.

Invariant: both sides of a fall are measured under the same draws, and its interval is over their differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Score
from sia_flow.report.comparison import MANY, RESAMPLES, t_interval

How = Literal["t over seeds", "paired bootstrap over rollouts", "paired bootstrap over instances"]


@dataclass(frozen=True, slots=True)
class Fall:
    """Score of the joint optimum less that of it with one part swapped: above zero, the swap costs."""

    value: float
    low: float
    high: float
    seeds: int
    method: How

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.low > 0:
            return "the swap costs"
        return "the swap gains" if self.high < 0 else "no difference shown"


def fall(pairs: Sequence[tuple[Score, Score]], level: float = 0.95) -> Fall:
    """Return the mean fall over seeds of (joint, swapped) scores on the same draws. Raises ValueError for none.

    Three seeds or more: Student's interval over them. Fewer: the paired differences of rollouts are redrawn within each
    instance, or, where there are many instances, the instances.
    """
    if not pairs:
        raise ValueError("no pair of scores: measure the grid first")
    groups = [_differences(joint, swapped) for joint, swapped in pairs]
    means = np.array([_mean(group) for group in groups])
    if len(pairs) >= 3:
        low, high = t_interval(means, level)
        return Fall(float(means.mean()), low, high, len(pairs), "t over seeds")
    many = all(len(group) >= MANY for group in groups)
    generator = np.random.default_rng(derive_seed("fall", *(score.mean for pair in pairs for score in pair)))
    drawn = sum((_redrawn(group, generator, many=many) for group in groups), np.zeros(RESAMPLES)) / len(groups)
    low, high = (float(edge) for edge in np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2]))
    how: How = "paired bootstrap over instances" if many else "paired bootstrap over rollouts"
    return Fall(float(means.mean()), low, high, len(pairs), how)


def _differences(joint: Score, swapped: Score) -> list[NDArray[np.float64]]:
    """Return the differences of rewards, one array [samples] an instance that both have."""
    shared = [(joint.rewards[i], swapped.rewards[i]) for i in joint.rewards if i in swapped.rewards]
    return [np.array([a - b for a, b in zip(ours, theirs, strict=False)]) for ours, theirs in shared]


def _mean(groups: Sequence[NDArray[np.float64]]) -> float:
    return fmean(float(group.mean()) for group in groups)


def _redrawn(
    groups: Sequence[NDArray[np.float64]], generator: np.random.Generator, *, many: bool
) -> NDArray[np.float64]:
    """Return redrawn means [resamples]."""
    if many:
        means = np.array([group.mean() for group in groups])
        chosen = generator.integers(0, len(means), (RESAMPLES, len(means)))
        return np.asarray(means[chosen].mean(axis=1))
    drawn = [group[generator.integers(0, len(group), (RESAMPLES, len(group)))].mean(axis=1) for group in groups]
    return np.asarray(np.mean(drawn, axis=0))
