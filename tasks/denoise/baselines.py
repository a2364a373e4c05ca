"""Published baselines, run on the host by trusted code: MAGIC (van Dijk et al. 2018) and the identity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.denoise import kit, single

Matrix = NDArray[np.float64]


def magic(counts: Matrix, knn: int = 5, t: int = 3, n_pca: int = 100, decay: float = 1.0) -> Matrix:
    """Return MAGIC's approximate form: square root, P^t in PCA space, squared, times the library size.

    Where the kit's PCA is exact this is, bit for bit, what the kit's functions give; beyond, `single` comes near to it.
    """
    if min(counts.shape) > kit.EXACT:
        return single.magic(counts, knn, t, n_pca, decay)
    normal = kit.library_normalize(counts, scale=1.0)
    parts = kit.adopt(np.sqrt(normal, out=normal))
    denoised = kit.diffuse_parts(kit.diffusion(parts, knn, n_pca, decay), parts, t, n_pca)
    totals = counts.sum(axis=1, keepdims=True)
    for rows in kit.blocks(denoised.shape):
        block = denoised[rows]
        np.square(np.maximum(block, 0.0, out=block), out=block)
        block *= totals[rows]
    return denoised


def identity(counts: Matrix) -> Matrix:
    """Return the counts as they are."""
    return counts.copy()


BASELINES = {"identity": identity, "magic": magic}
