"""Molecular cross-validation (Batson et al. 2019): molecules, not cells, are divided into train and test.

train ~ Binomial(counts, 0.9) from `RandomState(seed)`, test = counts - train; genes without a train
molecule are dropped from both. OpenProblems v1.0.0 divides in this way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEEP = 0.9


@dataclass(frozen=True, slots=True)
class Halves:
    """Train and test [cells, genes kept], float64 holding whole numbers, row by row, and which genes were kept."""

    train: NDArray[np.float64]
    test: NDArray[np.float64]
    genes: NDArray[np.int64]


def divide(counts: NDArray[np.int64] | NDArray[np.int32], seed: int) -> Halves:
    """Divide the molecules of counts [cells, genes] by a seed of 32 bits."""
    random = np.random.RandomState(seed)
    train = random.binomial(counts, KEEP)
    genes = np.flatnonzero(train.sum(axis=0) > 0)
    test = counts - train
    # A selection of columns comes out with its columns in a row; all that follows goes by cells.
    return Halves(train[:, genes].astype(np.float64, order="C"), test[:, genes].astype(np.float64, order="C"), genes)
