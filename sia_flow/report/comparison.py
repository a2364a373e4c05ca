"""Is one arm better than another: the difference, its interval, and a verdict in words.

Invariant: the interval is over what was really repeated. With three seeds or more that is the seed (paired
t-interval); with fewer it is the instance where there are many, else only the rollout (bootstrap within each
instance), and the words say so.
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
from sia_flow.lineage.results import ArmResult
from sia_flow.report.student import central, quantile

RESAMPLES = 4000
MANY = 30
"""From as many instances on they are a sample themselves, and what is redrawn is the instance."""
Outcome = Literal["better", "worse", "undecided"]
Method = Literal["t over seeds", "bootstrap over rollouts", "bootstrap over instances"]


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
    method: Method
    p: float
    """Two-sided p-value of no difference, by the same method as the interval."""
    effect: float | None
    """Mean over deviation of the seeds' differences, corrected for few seeds (Hedges' g); none below three seeds."""

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
            how = f"bootstrap over the {self.method.split()[-1]} of {seeds}{', paired' if self._by_instance else ''}"
        text = f"{said} on {self.split}: {interval}, {self.level:.0%} {how}."
        if self.method != "t over seeds":
            text += " It tells how well these agents were measured, not whether another seed would agree."
        return text

    @property
    def _by_instance(self) -> bool:
        return self.method == "bootstrap over instances"


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
    centre = float(differences.mean())
    if len(pairs) >= 3:
        low, high = t_interval(differences, level)
        figures = (t_p_value(differences), standardised(differences))
        return Comparison(treatment, control, split, centre, low, high, level, len(pairs), "t over seeds", *figures)
    drawn = _drawn_differences(pairs)
    low, high = _percentiles(drawn, level)
    return Comparison(
        treatment,
        control,
        split,
        centre,
        low,
        high,
        level,
        len(pairs),
        "bootstrap over instances" if all(_many(pair) for pair in pairs) else "bootstrap over rollouts",
        bootstrap_p_value(drawn),
        None,
    )


def t_interval(differences: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return Student's interval for the mean of `differences` [seeds], mean ± t(n - 1) · s / sqrt(n)."""
    count = len(differences)
    half = quantile(level, count - 1) * float(differences.std(ddof=1)) / count**0.5
    centre = float(differences.mean())
    return centre - half, centre + half


def t_p_value(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of Student's paired test; 1 where nothing differs at all, 0 where nothing varies."""
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    if error == 0:
        return float(differences.mean() == 0)
    return 1.0 - central(abs(float(differences.mean())) / error, len(differences) - 1)


def standardised(differences: NDArray[np.float64]) -> float | None:
    """Return mean / deviation of paired differences, times 1 - 3 / (4 (n - 1) - 1); none where nothing varies.

    Source: Hedges, Distribution Theory for Glass's Estimator of Effect Size, J. Educational Statistics 6, 1981.
    """
    deviation = float(differences.std(ddof=1))
    if deviation == 0:
        return None
    return float(differences.mean()) / deviation * (1 - 3 / (4 * (len(differences) - 1) - 1))


def bootstrap_interval(pairs: Sequence[tuple[Score, Score]], level: float) -> tuple[float, float]:
    """Return the percentile interval of the mean difference, rollouts redrawn within each instance and arm.

    A few instances are held fixed: both arms are measured on the same ones. Of many, the instances are redrawn,
    each with the rollouts of both arms. The seed of the resampling follows from the means, so that equal records
    give equal intervals.
    """
    return _percentiles(_drawn_differences(pairs), level)


def bootstrap_p_value(drawn: NDArray[np.float64]) -> float:
    """Return twice the smaller share of redrawn differences [resamples] on one side of zero, at least 1 / resamples."""
    side = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    return min(1.0, max(2 * side, 1 / len(drawn)))


def redraws(scores: Sequence[Score], *stream: str | int) -> list[NDArray[np.float64]]:
    """Return the redrawn means [resamples] of each score; the stream and the means make the seed."""
    generator = np.random.default_rng(derive_seed(*stream, *(score.mean for score in scores)))
    return [_redraw(score, generator) for score in scores]


def _many(pair: tuple[Score, Score]) -> bool:
    return len(pair[0].rewards.keys() & pair[1].rewards.keys()) >= MANY


def _drawn_instances(pairs: Sequence[tuple[Score, Score]]) -> NDArray[np.float64]:
    generator = np.random.default_rng(derive_seed("bootstrap", *(score.mean for pair in pairs for score in pair)))
    drawn = np.zeros(RESAMPLES)
    for ours, theirs in pairs:
        shared = [(ours.rewards[i], theirs.rewards[i]) for i in ours.rewards if i in theirs.rewards]
        gains = np.array([fmean(mine) - fmean(other) for mine, other in shared])
        drawn += [gains[generator.integers(0, len(gains), len(gains))].mean() for _ in range(RESAMPLES)]
    return drawn / len(pairs)


def _drawn_differences(pairs: Sequence[tuple[Score, Score]]) -> NDArray[np.float64]:
    if all(_many(pair) for pair in pairs):
        return _drawn_instances(pairs)
    means = redraws([score for pair in pairs for score in pair], "bootstrap")
    drawn = sum((ours - theirs for ours, theirs in zip(means[::2], means[1::2], strict=True)), np.zeros(RESAMPLES))
    return drawn / len(pairs)


def _percentiles(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
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
