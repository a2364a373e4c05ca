"""The menu: each algorithm as data, an estimator with a loss and its own settings.

Invariant: what stands here works; a name that is not here is refused before any rollout is paid for.
Learning rates are for adapters of models of some 100,000 parameters; for models of billions use about a
thirtieth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sia_flow.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Critic:
    """A learned baseline and what turns its values into credit; rewards are of order 1."""

    stride: float = 0.3
    """Its learning rate times the width of the states, that is about how far one step moves a value: AdamW moves
    every weight alike, so that the same rate would move a wide head's values further."""
    clip: float = 0.2
    """How far a value may move from the old one before moving further earns nothing."""
    gamma: float = 1.0
    """Discount for each token."""
    lam: float = 0.95
    """Share of each later error that a token is credited with: 1 trusts the rewards alone, 0 the next value."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One entry of the menu."""

    name: str
    estimator: str
    """Name in `advantages.ESTIMATORS`; `gae` with a critic."""
    loss: str
    """Name in `losses.LOSSES`."""
    when: str
    """For whom it is, in the words of the paper's section 7.3."""
    learning_rate: float
    epochs: int
    min_group: int
    kl: float = 0.0
    kl_in: Literal["loss", "reward", "none"] = "none"
    normalise: bool = False
    """Divide the token credit by its root mean square."""
    only_credited: bool = False
    """Train on episodes with credit only, rather than on all of every live group."""
    critic: Critic | None = None
    """A value head beside the adapter; None: episodes of a group are each other's baseline."""


_ALL = (
    Algorithm(
        "ppo",
        estimator="gae",
        loss="clipped",
        when="dense or intermediate reward over long episodes; guards against policy collapse",
        learning_rate=1e-3,
        epochs=2,
        min_group=1,
        kl=0.02,
        kl_in="reward",
        critic=Critic(),
    ),
    Algorithm(
        "grpo",
        estimator="grpo",
        loss="clipped",
        when="cheap rollouts, one reward at the end of an episode",
        learning_rate=1e-3,
        epochs=2,
        min_group=2,
        kl=0.02,
        kl_in="loss",
    ),
    Algorithm(
        "entropic",
        estimator="entropic",
        loss="importance_sampling",
        when="rewards heavily right-skewed: rare, individually high-signal successes",
        learning_rate=2e-3,
        epochs=1,
        min_group=3,
    ),
    Algorithm(
        "entropic_ess",
        estimator="entropic_ess",
        loss="importance_sampling",
        when="as entropic, but a quarter of each group always counts: gentler where one outlier would take all",
        learning_rate=2e-3,
        epochs=1,
        min_group=3,
    ),
    Algorithm(
        "reinforce_kl",
        estimator="leave_one_out_baseline",
        loss="importance_sampling",
        when="dense reward, base already near-capable; guards against capability regression",
        learning_rate=2e-3,
        epochs=1,
        min_group=1,
        kl=0.02,
        kl_in="reward",
        normalise=True,
    ),
    Algorithm(
        "dpo",
        estimator="preferred",
        loss="dpo",
        when="the verifier ranks reliably but its absolute score means little",
        learning_rate=1e-3,
        epochs=2,
        min_group=2,
        only_credited=True,
    ),
    Algorithm(
        "best_of_n_bc",
        estimator="top_share",
        loss="cross_entropy",
        when="mean reward near the floor, policy gradient numerically zero: the cold start",
        learning_rate=1e-3,
        epochs=2,
        min_group=2,
        only_credited=True,
    ),
)

ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType({algorithm.name: algorithm for algorithm in _ALL})


def algorithm_named(name: str) -> Algorithm:
    """Return the algorithm. Raises TrainingError with the menu for an unknown name."""
    if name not in ALGORITHMS:
        raise TrainingError(f"unknown algorithm {name!r}; the menu is: {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]
