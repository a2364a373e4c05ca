"""The scoring passes over whole matrices, in blocks of rows that stay in the cache.

Numpy's vectorised log1p beats a fused numba loop here (benchmarks/denoise.py), so nothing is compiled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.denoise.kit import blocks

Matrix = NDArray[np.float64]
SCALE = 1e4


def log_normalize(values: Matrix) -> Matrix:
    """Return log1p(1e4 values / row sum); a row that sums to zero stays zero."""
    buffer: Matrix = np.multiply(values, _scales(values)[:, None])
    return np.log1p(buffer, out=buffer)


def squared_distances(values: Matrix, *targets: Matrix) -> list[float]:
    """Return mean((target - log_normalize(values))^2) for each of the targets, all of the shape of `values`."""
    scales = _scales(values)
    gaps = [np.empty(values.shape) for _ in targets]
    for rows in blocks(values.shape):
        logs = np.multiply(values[rows], scales[rows, None])
        np.log1p(logs, out=logs)
        for target, gap in zip(targets, gaps, strict=True):
            np.subtract(target[rows], logs, out=gap[rows])
    # One product over all entries: in parts it would round differently.
    return [float(flat @ flat) / flat.size for flat in (gap.ravel() for gap in gaps)]


def scan(values: Matrix) -> tuple[bool, float, float]:
    """Return whether all values are finite, the smallest and the largest."""
    low, high = float(values.min()), float(values.max())
    return bool(np.isfinite(low) and np.isfinite(high)), low, high


def _scales(values: Matrix) -> Matrix:
    """Return what each row is multiplied by: 1e4 over its sum, or one where that is zero."""
    totals = values.sum(axis=1)
    scales: Matrix = np.divide(SCALE, totals, out=np.ones_like(totals), where=totals > 0)
    return scales
