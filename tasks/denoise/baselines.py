"""Published baselines, run on the host by trusted code: MAGIC (van Dijk et al. 2018) and the identity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.denoise import kit

Matrix = NDArray[np.float64]


def magic(counts: Matrix, knn: int = 5, t: int = 3, n_pca: int = 100, decay: float = 1.0) -> Matrix:
    """Return MAGIC's approximate form: square root, P^t in PCA space, squared, times the library size."""
    normal = np.sqrt(kit.library_normalize(counts, scale=1.0))
    operator = kit.affinity(normal, knn, n_pca, decay)
    smooth: Matrix = np.maximum(kit.diffuse_pca(operator, normal, t, n_pca), 0.0)
    denoised: Matrix = np.square(smooth) * counts.sum(axis=1, keepdims=True)
    return denoised


def identity(counts: Matrix) -> Matrix:
    """Return the counts as they are."""
    return counts.copy()


BASELINES = {"identity": identity, "magic": magic}
