"""Real counts: 700 peripheral blood cells x 765 genes that ship inside scanpy's wheel (BSD-3), read without
scanpy.

The file holds log1p of counts per ten thousand. Its `n_counts` gives every cell's molecules before genes
were dropped, so the counts come back exactly; every recovered value is checked to be a whole number.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_flow.errors import TaskError

FILE = Path("datasets") / "10x_pbmc68k_reduced.h5ad"
SOURCE = "scanpy.datasets.pbmc68k_reduced (10x Genomics PBMC 68k, BSD-3 wheel)"
TOLERANCE = 0.15


def read_pbmc() -> NDArray[np.int32]:
    """Return counts [700, 765]. Raises TaskError where scanpy is not installed or the file is another one."""
    import h5py

    with h5py.File(_locate(), "r") as file:
        raw = file["raw.X"]
        shape = (len(raw["indptr"]) - 1, len(file["raw.var"]))
        values = _dense(raw["data"][:], raw["indices"][:], raw["indptr"][:], shape)
        return recover_counts(values, file["obs"]["n_counts"].astype("f8")[:])


def recover_counts(values: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the counts behind log1p(1e4 counts / total); `totals` holds each cell's molecules.

    The unit of a cell is its smallest positive value, which must be one molecule by `totals` as well.
    Raises TaskError where that fails, or where a recovered value is further than 0.15 from a whole number.
    """
    expression = np.expm1(values)
    unit = np.where(expression > 0, expression, np.inf).min(axis=1)
    if not np.allclose(1e4 / unit, totals, rtol=0.01):
        raise TaskError(f"{FILE.name}: the smallest value of a cell is not one molecule; install scanpy >=1.11,<2")
    exact = expression / unit[:, None]
    counts = np.rint(exact)
    if np.abs(exact - counts).max() > TOLERANCE:
        raise TaskError(f"{FILE.name}: the values are not log1p of counts per ten thousand; install scanpy >=1.11,<2")
    whole: NDArray[np.int32] = counts.astype(np.int32)
    return whole


def _dense(
    data: NDArray[np.float32], indices: NDArray[np.int32], starts: NDArray[np.int32], shape: tuple[int, int]
) -> NDArray[np.float64]:
    dense = np.zeros(shape)
    dense[np.repeat(np.arange(shape[0]), np.diff(starts)), indices] = data
    return dense


def _locate() -> Path:
    found = importlib.util.find_spec("scanpy")
    folders = (found.submodule_search_locations or []) if found is not None else []
    for folder in folders:
        if (path := Path(folder) / FILE).is_file():
            return path
    raise TaskError('the data set pbmc ships inside scanpy, which is not here: pip install "sia-flow[denoise]"')
