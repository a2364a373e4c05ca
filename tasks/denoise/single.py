"""MAGIC for many cells and genes: the kit's steps in single precision, with a sparse operator.

For the host's baseline alone: what candidates call is the kit, in double precision. The components span the very space
that the kit finds, so that both agree to about 1e-8 in mse_norm; of two neighbours as good as equally far, a cell may
here take the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.denoise import kit

Matrix = NDArray[np.float64]
Single = NDArray[np.float32]


def magic(counts: Matrix, knn: int, t: int, n_pca: int, decay: float) -> Matrix:
    """Return MAGIC's approximate form of counts [cells, genes], more than 120 of each.

    Raises ValueError for counts that are not finite or below zero.
    """
    totals = counts.sum(axis=1, keepdims=True)
    normal, mean = _normalize(counts, totals)
    values, loadings = _components(normal, min(n_pca, kit.COMPONENTS))
    operator = _operator(values, min(knn, len(counts) - 1), decay)
    for _ in range(t):
        values = operator @ values
    smooth = values @ loadings
    denoised = np.empty(counts.shape)
    for rows in kit.blocks(counts.shape):
        block = smooth[rows]
        block += mean
        np.square(np.maximum(block, 0.0, out=block), out=block)
        np.multiply(block, totals[rows], out=denoised[rows])
    return denoised


def _normalize(counts: Matrix, totals: Matrix) -> tuple[Single, Single]:
    """Return the square roots of each cell's shares, centred, and the means that were taken off [genes]."""
    normal = np.empty(counts.shape, np.float32)
    sums = np.zeros(counts.shape[1])
    divisors = np.where(totals > 0, totals, 1.0)
    with np.errstate(invalid="ignore"):
        for rows in kit.blocks(counts.shape):
            block = counts[rows] / divisors[rows]
            normal[rows] = np.sqrt(block, out=block)
            sums += block.sum(axis=0)
    if not np.isfinite(sums).all():
        raise ValueError("counts holds values that are not finite or below zero")
    mean = (sums / len(counts)).astype(np.float32)
    normal -= mean
    return normal, mean


def _components(normal: Single, count: int) -> tuple[Single, Single]:
    """Return scores [cells, kept] and loadings [kept, genes] of the first `count` components that are not zero."""
    basis = kit.subspace(normal)
    inside = normal.T @ basis
    squares, turn = np.linalg.eigh((inside.T @ inside).astype(np.float64))
    singular = np.sqrt(np.maximum(squares[::-1], 0.0))
    kept = min(count, max(1, int((singular > 1e-5 * singular[0]).sum())))
    turn, singular = turn[:, ::-1][:, :kept], singular[:kept]
    return basis @ (turn * singular).astype(np.float32), (turn / singular).T.astype(np.float32) @ inside.T


def _operator(scores: Single, near: int, decay: float) -> Any:
    """Return the diffusion operator, `kit.affinity`'s, as a sparse array [cells, cells]."""
    from scipy.sparse import csr_array

    cells = len(scores)
    # Differences of distances are small beside the distances: single precision would take other neighbours.
    order, nearest, _ = kit.neighbours(scores.astype(np.float64), min(3 * near + 1, cells))
    bandwidth = np.maximum(np.partition(nearest, near, axis=1)[:, [near]], 1e-12)
    kernel = np.exp(-((nearest / bandwidth) ** decay))
    kernel[kernel < kit.CUTOFF] = 0.0
    starts = np.arange(0, order.size + 1, order.shape[1])
    one_way = csr_array((kernel.ravel(), order.ravel(), starts), shape=(cells, cells))
    operator = (one_way + one_way.T).tocsr()
    operator.data /= np.repeat(operator.sum(axis=1), np.diff(operator.indptr))
    return operator.astype(np.float32)
