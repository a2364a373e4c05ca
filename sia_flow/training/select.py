"""Which algorithm when: the paper's table (SIA, section 7.3) as explicit rules on measured features.

Invariant: the choice is a pure function of the features and the menu, and comes with the figures behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sia_flow.errors import TrainingError

SPARSE = 0.05
"""Share of rewards above the floor below which successes are rare."""
DENSE = 0.9
CAPABLE = 0.8
"""Mean reward over best reward, both from the floor, above which the policy is near-capable."""
SKEWED = 1.0
"""Sample skewness beyond which a distribution is commonly called heavily skewed."""
MANY_CALLS = 3
"""Model calls of a rollout from which one advantage for all of its tokens is too coarse."""
MANY_TOKENS = 1000
"""The same in sampled tokens."""
FEW = 8
"""Fewer values than this give no skewness."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a generation's rewards say about the signal that training would get."""

    count: int
    mean: float
    best: float
    floor: float
    density: float
    """Share of rewards above the floor."""
    pass_rate: float
    """Share of valid answers."""
    skew: float
    """Of the valid answers' rewards less their group's mean: differences between instances do not count."""
    dead_groups: float
    """Share of groups without spread."""
    spread: float
    """Mean standard deviation within a group."""
    ordinal: bool
    """The verifier ranks reliably, its absolute score means little."""
    calls: float = 1.0
    """Mean model calls of a rollout, one after the other."""
    tokens: float = 0.0
    """Mean sampled tokens of a rollout."""

    @property
    def long(self) -> bool:
        """Return whether rollouts are so long that each token needs a credit of its own."""
        return self.calls >= MANY_CALLS or self.tokens >= MANY_TOKENS

    @property
    def capability(self) -> float:
        """Return mean over best, both from the floor; 0 where nothing is above the floor."""
        reach = self.best - self.floor
        return (self.mean - self.floor) / reach if reach > 0 else 0.0


def features(
    rewards: Mapping[str, Sequence[float]],
    valid: Mapping[str, Sequence[bool]],
    *,
    floor: float = 0.0,
    ordinal: bool = False,
    calls: float = 1.0,
    tokens: float = 0.0,
) -> Features:
    """Return the features of rewards and validity by group, and of the length of rollouts where it is known.

    Raises TrainingError if there is no reward.
    """
    groups = [np.asarray(values, dtype=np.float64) for values in rewards.values() if len(values)]
    if not groups:
        raise TrainingError("there is no reward to choose an algorithm by; roll out at least one instance")
    marks = [np.asarray(valid[name], dtype=bool) for name, values in rewards.items() if len(values)]
    everything = np.concatenate(groups)
    good = [group[mark] for group, mark in zip(groups, marks, strict=True)]
    residuals = np.concatenate([group - group.mean() for group in good if len(group)] or [np.zeros(0)])
    return Features(
        count=len(everything),
        mean=float(everything.mean()),
        best=float(everything.max()),
        floor=floor,
        density=float((everything > floor).mean()),
        pass_rate=float(np.concatenate(marks).mean()),
        skew=skewness(residuals),
        dead_groups=float(np.mean([np.ptp(group) == 0 for group in groups])),
        spread=float(np.mean([group.std() for group in groups])),
        ordinal=ordinal,
        calls=calls,
        tokens=tokens,
    )


def skewness(values: NDArray[np.float64]) -> float:
    """Return the third standardised moment of `values` [N]; 0 for fewer than eight values or no spread."""
    if len(values) < FEW or np.ptp(values) <= 1e-12:
        return 0.0
    centred = values - values.mean()
    return float((centred**3).mean() / (centred**2).mean() ** 1.5)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table."""

    algorithm: str
    applies: Callable[[Features], bool]
    reason: str
    """A template over the features' names."""


RULES = (
    Rule("dpo", lambda f: f.ordinal, "the verifier ranks, its absolute score means little"),
    Rule(
        "best_of_n_bc",
        lambda f: f.density < SPARSE and f.dead_groups > 0.5,
        "{density:.1%} of the rewards are above the floor, {dead_groups:.0%} of the groups have no spread: "
        "the policy gradient is numerically zero",
    ),
    Rule(
        "entropic",
        lambda f: f.skew > SKEWED,
        "rewards are right-skewed (skewness {skew:.2f}): rare successes carry the signal",
    ),
    Rule(
        "ppo",
        lambda f: f.density >= DENSE and f.long,
        "{density:.0%} of the rewards are above the floor and a rollout has {calls:.1f} calls and {tokens:.0f} tokens: "
        "a critic can tell which of them earned it",
    ),
    Rule(
        "reinforce_kl",
        lambda f: f.density >= DENSE and f.capability >= CAPABLE,
        "{density:.0%} of the rewards are above the floor and the mean is at {capability:.0%} of the best: "
        "near-capable, so regression is the risk",
    ),
    Rule(
        "grpo",
        lambda _: True,
        "rollouts are cheap and the reward comes at the end of an episode (skewness {skew:.2f}, spread "
        "{spread:.3f}, {dead_groups:.0%} dead groups)",
    ),
)


def choose(found: Features, menu: Sequence[str]) -> tuple[str, str]:
    """Return (algorithm, reason): the first rule that applies and whose algorithm is on the menu, else its first.

    Raises TrainingError for an empty menu.
    """
    for rule in RULES:
        if rule.algorithm in menu and rule.applies(found):
            figures = {name: getattr(found, name) for name in found.__slots__}
            return rule.algorithm, rule.reason.format(**figures, capability=found.capability)
    if not menu:
        raise TrainingError("the menu of algorithms is empty; name at least one")
    return menu[0], "no rule of the table applies; it is the first of the menu"
