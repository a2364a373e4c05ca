"""Is one arm better than another: the difference, its interval, and a verdict in words.

Invariant: the interval is over what was really repeated. With three seeds or more that is the seed (paired
t-interval); with fewer it is only the rollout (bootstrap within each instance), and the words say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Score
from sia_flow.lineage.results import ArmResult

RESAMPLES = 4000
Outcome = Literal["better", "worse", "undecided"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference `treatment - control` of mean rewards on one split, paired by seed."""

    treatment: str
    control: str
    split: str
    difference: float
    low: float
    high: float
    level: float
    """Coverage of the interval, 0 to 1."""
    seeds: int
    method: Literal["t over seeds", "bootstrap over rollouts"]

    @property
    def outcome(self) -> Outcome:
        """Whether the interval leaves zero on one side."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"

    @property
    def verdict(self) -> str:
        """The comparison in one or two sentences."""
        said = {
            "better": f"{self.treatment} is better than {self.control}",
            "worse": f"{self.treatment} is worse than {self.control}",
            "undecided": f"{self.treatment} and {self.control} cannot be told apart",
        }[self.outcome]
        interval = f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        if self.method == "t over seeds":
            how = f"t-interval over {self.seeds} seeds, paired"
        else:
            seeds = "one seed" if self.seeds == 1 else f"{self.seeds} seeds"
            how = f"bootstrap over the rollouts of {seeds}"
        text = f"{said} on {self.split}: {interval}, {self.level:.0%} {how}."
        if self.method == "bootstrap over rollouts":
            text += " It tells how well these agents were measured, not whether another seed would agree."
        return text


def compare(
    results: Sequence[ArmResult],
    treatment: str = "SIA-W+H",
    control: str = "SIA-H",
    split: Literal["select", "sealed"] = "sealed",
    level: float = 0.95,
) -> Comparison | None:
    """Return the comparison of two arms over the seeds that both have, or None where they share none."""
    pairs = _pairs(results, treatment, control, split)
    if not pairs:
        return None
    differences = np.array([ours.mean - theirs.mean for ours, theirs in pairs])
    if len(pairs) >= 3:
        low, high = t_interval(differences, level)
        return Comparison(
            treatment, control, split, float(differences.mean()), low, high, level, len(pairs), "t over seeds"
        )
    low, high = bootstrap_interval(pairs, level)
    return Comparison(
        treatment,
        control,
        split,
        float(differences.mean()),
        low,
        high,
        level,
        len(pairs),
        "bootstrap over rollouts",
    )


def t_interval(differences: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return Student's interval for the mean of `differences` [seeds], mean ± t(n - 1) · s / sqrt(n)."""
    # scipy.stats has the same quantile, but takes a second to import.
    from scipy.special import stdtrit

    count = len(differences)
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * float(differences.std(ddof=1)) / count**0.5
    centre = float(differences.mean())
    return centre - half, centre + half


def bootstrap_interval(pairs: Sequence[tuple[Score, Score]], level: float) -> tuple[float, float]:
    """Return the percentile interval of the mean difference, rollouts redrawn within each instance and arm.

    The instances are held fixed: both arms are measured on the same ones. The seed of the resampling follows
    from the means, so that equal records give equal intervals.
    """
    generator = np.random.default_rng(derive_seed("bootstrap", *(p.mean for pair in pairs for p in pair)))
    means = np.zeros(RESAMPLES)
    for ours, theirs in pairs:
        means += _redraw(ours, generator) - _redraw(theirs, generator)
    low, high = np.quantile(means / len(pairs), [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _redraw(score: Score, generator: np.random.Generator) -> NDArray[np.float64]:
    # Means [resamples]: the mean over all rollouts, each instance's redrawn among themselves.
    groups = [np.array(rewards) for rewards in score.rewards.values() if rewards]
    if not groups:
        return np.full(RESAMPLES, score.mean) + score.se * generator.standard_normal(RESAMPLES)
    sums = np.zeros(RESAMPLES)
    for rewards in groups:
        chosen = generator.integers(0, len(rewards), (RESAMPLES, len(rewards)))
        sums += rewards[chosen].sum(axis=1)
    return sums / sum(len(rewards) for rewards in groups)


def _pairs(results: Sequence[ArmResult], treatment: str, control: str, split: str) -> list[tuple[Score, Score]]:
    by_seed = {(result.arm, result.seed): result for result in results}
    seeds = sorted(seed for arm, seed in by_seed if arm == treatment and (control, seed) in by_seed)
    return [(getattr(by_seed[treatment, seed], split), getattr(by_seed[control, seed], split)) for seed in seeds]
