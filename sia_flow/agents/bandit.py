"""Bayesian linear regression of gains on contexts, one for each action, and Thompson's rule on top of it.

Invariant: equal data and an equal seed give equal chances and an equal draw, and no action that may be drawn has
a chance below FLOOR / K of K actions, so that what was drawn can be weighed against other policies later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import derive_seed

Array = NDArray[np.float64]

LEVEL, SLOPE = 0.5, 0.25
"""Prior standard deviations of the intercept and of each slope, in deviations of the rewards."""
NOISE = 0.3
"""Prior guess of the deviation of a gain about the regression; SURE is how many halves of a row it counts for."""
SURE = 3.0
DRAWS = 2000
FLOOR = 0.1
"""Part of the probability that is spread evenly."""


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Normal-inverse-gamma: weights | s2 ~ N(mean, s2 spread), s2 ~ IG(shape, scale)."""

    rows: int
    mean: Array
    """[D]"""
    spread: Array
    """[D, D]"""
    shape: float
    scale: float

    def expected(self, context: Array) -> float:
        """Return the expected gain at a context [D]."""
        return float(context @ self.mean)

    def width(self, context: Array) -> float:
        """Return the scale of the expected gain's Student distribution (2 shape degrees of freedom) at a context."""
        return math.sqrt(self.scale / self.shape * float(context @ self.spread @ context))

    def draw(self, random: np.random.Generator, context: Array, count: int) -> Array:
        """Return draws [count] of the expected gain at a context from the posterior."""
        return self.expected(context) + self.width(context) * random.standard_t(2 * self.shape, count)


def regress(contexts: Array, gains: Array, errors: Array) -> Posterior:
    """Return the posterior after gains [N] at contexts [N, D], known to standard errors [N].

    The first entry of a context is 1. A gain has the variance s2 v, v = 1 + (error / NOISE)^2, so that badly
    measured rows count less. With X, y divided by sqrt(v) and the prior N(0, s2 V0), IG(a0, b0):
    V = (V0^-1 + X'X)^-1, m = V X'y, a = a0 + N / 2, b = b0 + (y'y - m'V^-1 m) / 2 (Gelman et al., Bayesian Data
    Analysis, 3rd ed., chapter 14, with the prior as additional data).
    """
    count, width = contexts.shape
    scales = np.full(width, SLOPE / NOISE)
    scales[0] = LEVEL / NOISE
    root = np.sqrt(1.0 + (errors / NOISE) ** 2)
    x, y = contexts / root[:, None], gains / root
    precision = np.diag(scales**-2) + x.T @ x
    spread: Array = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    mean = spread @ (x.T @ y)
    rest = max(0.0, float(y @ y - mean @ precision @ mean))
    return Posterior(count, mean, spread, SURE + count / 2, SURE * NOISE**2 + rest / 2)


def prior(width: int) -> Posterior:
    """Return what is believed before any row, for contexts [D] of this width."""
    return regress(np.zeros((0, width)), np.zeros(0), np.zeros(0))


def chances(beliefs: Mapping[str, Posterior], contexts: Mapping[str, Array], seed: int) -> dict[str, float]:
    """Return the probability of each action under Thompson's rule with a floor.

    (1 - FLOOR) times the share of posterior draws in which the action gains most, plus FLOOR / K.
    """
    random = np.random.default_rng(derive_seed(seed, "bandit"))
    names = sorted(beliefs)
    draws = np.stack([beliefs[name].draw(random, contexts[name], DRAWS) for name in names])
    wins = np.bincount(draws.argmax(axis=0), minlength=len(names)) / DRAWS
    return {name: float((1 - FLOOR) * win + FLOOR / len(names)) for name, win in zip(names, wins, strict=True)}


def drawn(probabilities: Mapping[str, float], seed: int) -> str:
    """Return one action, with its probability."""
    names: Sequence[str] = sorted(probabilities)
    mark = np.random.default_rng(derive_seed(seed, "draw")).random()
    totals = np.cumsum([probabilities[name] for name in names])
    return names[min(int(np.searchsorted(totals, mark, side="right")), len(names) - 1)]
