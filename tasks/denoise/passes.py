"""The scoring passes over whole matrices, each in one buffer.

Numpy's vectorised log1p beats a fused numba loop here (benchmarks/denoise.py), so nothing is compiled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
SCALE = 1e4


def log_normalize(values: Matrix) -> Matrix:
    """Return log1p(1e4 values / row sum); a row that sums to zero stays zero."""
    totals = values.sum(axis=1)
    factors = np.divide(SCALE, totals, out=np.ones_like(totals), where=totals > 0)
    buffer: Matrix = np.multiply(values, factors[:, None])
    return np.log1p(buffer, out=buffer)


def squared_distance(target: Matrix, values: Matrix) -> float:
    """Return mean((target - log_normalize(values))^2)."""
    buffer = log_normalize(values)
    flat = np.subtract(target, buffer, out=buffer).ravel()
    return float(flat @ flat) / flat.size


def scan(values: Matrix) -> tuple[bool, float, float]:
    """Return whether all values are finite, the smallest and the largest."""
    low, high = float(values.min()), float(values.max())
    return bool(np.isfinite(low) and np.isfinite(high)), low, high
