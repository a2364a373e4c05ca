"""What another policy would have gained on average, from pulls whose action was drawn with a known probability.

Invariant: no row is judged by a regression that saw it, and every estimate comes with a bootstrap interval and the
number of rows that it effectively rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sia_flow.agents.bandit import Array, prior, regress
from sia_flow.agents.context import Effect, context_of, effects_of
from sia_flow.canonical import derive_seed
from sia_flow.errors import SiaFlowError
from sia_flow.lineage.ledger import LedgerRow

FOLDS = 5
RESAMPLES = 1000
TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's mean gain a pull."""

    mean: float
    low: float
    high: float
    """Bounds of the 95 % percentile interval over bootstrap resamples of the rows."""
    effective: float
    """Rows that it rests on: (sum of w)^2 / sum of w^2 over the importance weights w."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Rows of a logging policy, N of them, with K actions."""

    actions: NDArray[np.int64]
    """[N], from 0 to K - 1."""
    gains: Array
    """[N]"""
    propensities: Array
    """[N]: probability with which the logging policy chose the action that it took."""


def inverse_propensity(log: Log, target: Array, seed: int = 0) -> Estimate:
    """Estimate by mean(w g), w = target(a) / propensity (Horvitz and Thompson, 1952).

    `target` [N, K] holds the other policy's probabilities at each row. Raises SiaFlowError without rows, and for a
    propensity that is no probability above 0.
    """
    weights = _weights(log, target)
    return _estimate(weights * log.gains, weights, seed)


def doubly_robust(log: Log, target: Array, expected: Array, seed: int = 0) -> Estimate:
    """Estimate by mean(sum_a target(a) q(a) + w (g - q(a taken))) (Dudik, Langford and Li, 2011).

    `expected` [N, K] is q, a regression's gains that did not see the row: right where the propensities or q are.
    Raises SiaFlowError as `inverse_propensity`.
    """
    weights = _weights(log, target)
    taken = expected[np.arange(len(log.gains)), log.actions]
    return _estimate((target * expected).sum(axis=1) + weights * (log.gains - taken), weights, seed)


def cross_expected(log: Log, contexts: Array, errors: Array) -> Array:
    """Return the expected gains [N, K] at contexts [N, K, D], each row from a regression on the other folds."""
    count, actions, width = contexts.shape
    expected = np.zeros((count, actions))
    folds = np.arange(count) % FOLDS
    for fold in range(FOLDS):
        for action in range(actions):
            rows = np.flatnonzero((folds != fold) & (log.actions == action))
            belief = regress(contexts[rows, action], log.gains[rows], errors[rows]) if len(rows) else prior(width)
            expected[folds == fold, action] = contexts[folds == fold, action] @ belief.mean
    return expected


@dataclass(frozen=True, slots=True)
class Comparison:
    """The policy that was followed against the table, in deviations of the rewards a pull."""

    rows: int
    followed: Estimate
    """The plain mean of what was pulled."""
    table: Estimate
    """What the table would have gained, by inverse propensities."""
    table_robust: Estimate
    """The same, doubly robust."""


def against_table(rows: Sequence[LedgerRow], seed: int = 0) -> Comparison | None:
    """Compare the drawn pulls of a ledger with what the table would have pulled; None for fewer than two of them."""
    pairs = [(row, effect) for row in rows if row.draw is not None for effect in effects_of([row])]
    if len(pairs) < 2:
        return None
    names = sorted({name for row, _ in pairs if row.draw for name in (row.action, row.draw.table)})
    effects = [effect for _, effect in pairs]
    log = Log(
        actions=np.array([names.index(row.action) for row, _ in pairs]),
        gains=np.array([effect.gain for effect in effects]),
        propensities=np.array([row.propensity for row, _ in pairs]),
    )
    target = np.array([[float(row.draw is not None and row.draw.table == name) for name in names] for row, _ in pairs])
    contexts = np.array([[_context(row, effect, name) for name in names] for row, effect in pairs])
    expected = cross_expected(log, contexts, np.array([effect.noise for effect in effects]))
    return Comparison(
        rows=len(pairs),
        followed=_estimate(log.gains, np.ones(len(pairs)), seed),
        table=inverse_propensity(log, target, seed),
        table_robust=doubly_robust(log, target, expected, seed),
    )


def _context(row: LedgerRow, effect: Effect, action: str) -> Array:
    found = context_of(row.features, action)
    return effect.context if found is None else found


def _weights(log: Log, target: Array) -> Array:
    if not len(log.gains):
        raise SiaFlowError("no pull with a known probability to estimate from: run an experiment with type: learned")
    if not ((log.propensities > 0) & (log.propensities <= 1)).all():
        raise SiaFlowError("a propensity is not above 0 and at most 1: the log is not of one policy's draws")
    found: Array = target[np.arange(len(log.gains)), log.actions] / log.propensities
    return found


def _estimate(contributions: Array, weights: Array, seed: int) -> Estimate:
    random = np.random.default_rng(derive_seed(seed, "bootstrap"))
    count = len(contributions)
    means = np.array([contributions[random.integers(0, count, count)].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, TAILS)
    square = float((weights**2).sum())
    effective = float(weights.sum()) ** 2 / square if square > 0 else 0.0
    return Estimate(float(contributions.mean()), float(low), float(high), effective)
