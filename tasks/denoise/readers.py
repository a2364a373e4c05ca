"""The user's own counts, from .h5ad or .npz: whole numbers, cells x genes, or an error with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sia_flow.errors import TaskError


def read_counts(path: Path) -> NDArray[np.int32]:
    """Return the counts [cells, genes] of a file. Raises TaskError that names the file and the remedy."""
    if not path.is_file():
        raise TaskError(f"{path}: no such file")
    readers = {".h5ad": _read_h5ad, ".npz": _read_npz}
    if path.suffix not in readers:
        raise TaskError(
            f"{path}: counts are read from .h5ad or .npz, not from {path.suffix or 'a file without suffix'}"
        )
    return check_counts(readers[path.suffix](path), path)


def check_counts(values: NDArray[Any], path: Path) -> NDArray[np.int32]:
    """Return `values` as counts. Raises TaskError where they are none."""
    if values.ndim != 2 or values.shape[0] < 30 or values.shape[1] < 10:
        raise TaskError(f"{path}: wants a matrix of at least 30 cells x 10 genes, found shape {values.shape}")
    if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        raise TaskError(f"{path}: holds values that are not finite numbers")
    counts = np.rint(values)
    if (counts != values).any() or counts.min() < 0 or counts.max() > np.iinfo(np.int32).max:
        raise TaskError(f"{path}: holds values that are no counts; give raw counts, not normalised or logged values")
    if (counts.sum(axis=1) == 0).any():
        raise TaskError(f"{path}: holds cells without a single count; drop them first")
    whole: NDArray[np.int32] = counts.astype(np.int32)
    return whole


def _read_h5ad(path: Path) -> NDArray[Any]:
    """Return layers/counts, or else X, by anndata's on-disk format: a matrix, or a sparse group."""
    try:
        import h5py
    except ImportError as error:
        raise TaskError(f'{path}: reading .h5ad wants h5py: pip install "sia-flow[denoise]"') from error
    try:
        with h5py.File(path, "r") as file:
            name = next((n for n in ("layers/counts", "X") if n in file), None)
            if name is None:
                raise TaskError(f"{path}: has neither X nor layers/counts")
            stored = file[name]
            return _densify(stored) if isinstance(stored, h5py.Group) else np.asarray(stored)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise TaskError(f"{path}: cannot be read as .h5ad: {error}") from error


def _densify(group: Any) -> NDArray[Any]:
    attributes = group.attrs
    kind = attributes.get("encoding-type", attributes.get("h5sparse_format"))
    shape = tuple(int(n) for n in attributes.get("shape", attributes.get("h5sparse_shape")))
    starts = np.asarray(group["indptr"])
    major = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    minor = np.asarray(group["indices"])
    dense = np.zeros(shape, dtype=group["data"].dtype)
    dense[(major, minor) if str(kind).startswith("csr") else (minor, major)] = np.asarray(group["data"])
    return dense


def _read_npz(path: Path) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if "counts" not in file:
                raise TaskError(f"{path}: has no array named counts; it holds {', '.join(file.files) or 'nothing'}")
            return np.asarray(file["counts"])
    except (OSError, ValueError, EOFError) as error:
        raise TaskError(f"{path}: cannot be read as .npz: {error}") from error
