"""The two published metrics of denoising, corrected, with their norms; and the reasons to reject an output.

mse is taken on LN(A) = log1p(1e4 A / row sum). The Poisson loss is mean(d - test log(d + 1e-6)):
OpenProblems ships it with its two arguments swapped, and the shipped form is kept beside it for the mode
`ttt` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.denoise.passes import log_normalize, scan, squared_distances

Matrix = NDArray[np.float64]
TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Reference:
    """What an instance's scores are measured against, made once from train, test and, where known, truth."""

    train_sum: float
    scale: float
    """test.sum() / train.sum()"""
    target: Matrix
    """LN(test)"""
    where: NDArray[np.int64]
    """Flat indices at which test is above zero."""
    test: Matrix
    """test at `where`"""
    size: int
    base_mse: float
    base_poisson: float
    perfect_poisson: float
    truth: Matrix | None = field(default=None)
    base_truth: float = 0.0


def make_reference(train: Matrix, test: Matrix, truth: Matrix | None = None) -> Reference:
    """Return the reference of an instance; `truth` is the expected count of each entry."""
    where = np.flatnonzero(test)
    target = log_normalize(test)
    scale = test.sum() / train.sum()
    expected = None if truth is None else log_normalize(np.ascontiguousarray(truth))
    seen = test.ravel()[where]
    targets = [target] if expected is None else [target, expected]
    base_mse, *base_truth = squared_distances(train, *targets)
    return Reference(
        train_sum=float(train.sum()),
        scale=float(scale),
        target=target,
        where=where,
        test=seen,
        size=test.size,
        base_mse=base_mse,
        base_poisson=_poisson(train, scale, where, seen),
        perfect_poisson=_poisson(test, 1.0, where, seen),
        truth=expected,
        base_truth=base_truth[0] if base_truth else 0.0,
    )


def reject(output: NDArray[np.float64], shape: tuple[int, ...], train_sum: float) -> str | None:
    """Return the reason code for which an output is refused, or None."""
    if not isinstance(output, np.ndarray) or output.shape != shape or output.dtype != np.float64:
        return "bad_shape"
    finite, low, high = scan(output)
    reasons = (
        (not finite, "non_finite"),
        (low < 0, "negative"),
        (high <= 0, "all_zero"),
        (high > train_sum, "too_large"),
    )
    return next((reason for found, reason in reasons if found), None)


def measure(output: Matrix, reference: Reference) -> dict[str, float]:
    """Return mse, mse_norm, poisson and poisson_norm of an output that `reject` let pass."""
    targets = [reference.target] if reference.truth is None else [reference.target, reference.truth]
    mse, *truth = squared_distances(output, *targets)
    poisson = _poisson(output, reference.scale, reference.where, reference.test)
    span = reference.base_poisson - reference.perfect_poisson
    metrics = {
        "mse": mse,
        "mse_norm": min(max((reference.base_mse - mse) / reference.base_mse, 0.0), 1.0),
        "poisson": poisson,
        "poisson_norm": (reference.base_poisson - poisson) / span,
    }
    if truth:
        metrics["truth_mse_ratio"] = truth[0] / reference.base_truth
    return metrics


def shipped_poisson_norm(output: Matrix, train: Matrix, reference: Reference) -> float:
    """Return poisson_norm with the loss as OpenProblems ships it: mean(test - d log(test + 1e-6)).

    Its perfect score, too, is taken as shipped: test scaled by test.sum() / train.sum().
    """
    floor = float(np.log(TINY))
    lifts = np.log(reference.test + TINY) - floor

    def gain(total: float, seen: Matrix) -> float:
        return floor * total + float(lifts @ seen)

    base = gain(float(train.sum()), train.ravel()[reference.where]) * reference.scale
    mine = gain(float(output.sum()), output.ravel()[reference.where]) * reference.scale
    perfect = gain(float(reference.test.sum()), reference.test) * reference.scale
    return (mine - base) / (perfect - base)


def without_truth(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that an agent may see."""
    return {name: value for name, value in metrics.items() if not name.startswith("truth_")}


def _poisson(values: Matrix, scale: float, where: NDArray[np.int64], seen: Matrix) -> float:
    """Return mean(d - test log(d + TINY)), d = scale values; only entries with molecules need a logarithm."""
    rates = values.ravel()[where]
    rates *= scale
    rates += TINY
    return float((values.sum() * scale - seen @ np.log(rates, out=rates)) / values.size)
