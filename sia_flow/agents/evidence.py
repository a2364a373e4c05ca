"""Statistics of a generation's rollouts: how rewards are spread, and how rollouts fail.

Invariant: every figure is computed from all rollouts, never from a sample of them, and is finite.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sia_flow.lineage.records import Trajectory, Verdict

BINS = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """All rollouts that failed for one reason, with one of them as the example."""

    reason: str
    count: int
    answer: str
    feedback: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of one generation on train; rewards in the verifier's unit, shares from 0 to 1."""

    n: int
    mean: float
    sd: float
    best: float
    upper: float
    """The 0.9 quantile of the rewards."""
    skew: float
    """Third standardised moment; above 1 the successes are rare and high."""
    valid: float
    """Share of valid answers: the pass rate."""
    density: float
    """Share of rollouts with more reward than a failure gets."""
    spread: float
    """Mean standard deviation within a group, a group being the rollouts on one instance."""
    dead: float
    """Share of groups whose rewards are all equal: they teach nothing."""
    valid_mean: float
    groups: Mapping[str, tuple[float, ...]]
    """Rewards by instance."""
    marks: Mapping[str, tuple[bool, ...]]
    """Validity by instance, in the same order."""
    histogram: tuple[tuple[float, int], ...]
    """Lower edge and count of equal bins from the lowest reward to the highest."""
    failures: tuple[Failure, ...]
    """Most frequent first."""

    def features(self) -> dict[str, float]:
        """Return the figures that the choice of lever and algorithm rests on."""
        names = ("n", "mean", "sd", "best", "upper", "skew", "valid", "density", "spread", "dead")
        return {name: float(getattr(self, name)) for name in names}

    def expected_best(self, draws: int) -> float:
        """Return the mean over groups of E[max of `draws` rewards drawn with replacement from the group].

        From the order statistics x_(1) <= ... <= x_(m): sum of x_(i) ((i/m)^draws - ((i-1)/m)^draws).
        """
        return _mean([_expected_max(rewards, draws) for rewards in self.groups.values()])


def statistics_of(trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]) -> Statistics:
    """Return the statistics of rollouts and their verdicts, given in the same order.

    Raises ValueError where the two differ in length.
    """
    groups: dict[str, list[float]] = {}
    marks: dict[str, list[bool]] = {}
    for trajectory, verdict in zip(trajectories, verdicts, strict=True):
        groups.setdefault(trajectory.instance, []).append(verdict.reward)
        marks.setdefault(trajectory.instance, []).append(verdict.valid)
    rewards = [verdict.reward for verdict in verdicts]
    mean, sd = _mean(rewards), _deviation(rewards)
    floor = max((verdict.reward for verdict in verdicts if not verdict.valid), default=0.0)
    return Statistics(
        n=len(rewards),
        mean=mean,
        sd=sd,
        best=max(rewards, default=0.0),
        upper=quantile(rewards, 0.9),
        skew=_mean([((reward - mean) / sd) ** 3 for reward in rewards]) if sd > 0 else 0.0,
        valid=_mean([float(verdict.valid) for verdict in verdicts]),
        density=_mean([float(reward > floor) for reward in rewards]),
        spread=_mean([_deviation(group) for group in groups.values()]),
        dead=_mean([float(max(group) == min(group)) for group in groups.values()]),
        valid_mean=_mean([verdict.reward for verdict in verdicts if verdict.valid]),
        groups={name: tuple(group) for name, group in groups.items()},
        marks={name: tuple(mark) for name, mark in marks.items()},
        histogram=_histogram(rewards),
        failures=_failures(trajectories, verdicts),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, linear between order statistics; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _failures(trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]) -> tuple[Failure, ...]:
    pairs = [pair for pair in zip(trajectories, verdicts, strict=True) if not pair[1].valid]
    counts = Counter(verdict.reason for _, verdict in pairs)
    first = {verdict.reason: (trajectory, verdict) for trajectory, verdict in reversed(pairs)}
    return tuple(
        Failure(reason, counts[reason], first[reason][0].answer or "", first[reason][1].feedback)
        for reason in sorted(counts, key=lambda reason: (-counts[reason], reason))
    )


def _histogram(rewards: Sequence[float]) -> tuple[tuple[float, int], ...]:
    low, high = min(rewards, default=0.0), max(rewards, default=0.0)
    width = (high - low) / BINS
    if width <= 0:
        return ((low, len(rewards)),)
    counts = Counter(min(int((reward - low) / width), BINS - 1) for reward in rewards)
    return tuple((low + i * width, counts[i]) for i in range(BINS))


def _expected_max(rewards: Sequence[float], draws: int) -> float:
    m = len(rewards)
    return sum(
        reward * ((i / m) ** draws - ((i - 1) / m) ** draws) for i, reward in enumerate(sorted(rewards), start=1)
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of the values themselves (no Bessel correction)."""
    mean = _mean(values)
    return math.sqrt(_mean([(value - mean) ** 2 for value in values]))
