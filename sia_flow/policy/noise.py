"""Uniform numbers by counter: row i of a request draws the same ones whatever is sampled beside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def uniforms(seed: int, index: int, count: int) -> NDArray[np.float64]:
    """Return `count` uniform numbers in [0, 1) of the stream named by a request's seed and a sample's index.

    Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is keyed by (seed, index):
    distinct keys are independent streams, and a longer draw begins with the shorter one.
    """
    key = np.array([seed % (1 << 64), index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)
