"""Counts in HDF5 files: .h5ad by anndata's on-disk format, and .h5 as 10x writes it. Matrices stay sparse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.denoise.faults import DataError, reading

LAYERS = ("layers/counts", "raw/X", "X")
GENE_EXPRESSION = b"Gene Expression"


def read_h5ad(path: Path, keep: tuple[str, str] | None = None) -> Any:
    """Return layers/counts, raw/X or X of an .h5ad, the first that holds whole numbers. Raises DataError."""
    with _open(path, ".h5ad") as file:
        there = [name for name in LAYERS if name in file]
        if not there:
            raise DataError(path, "no_counts", f"has none of {', '.join(LAYERS)}")
        found = next((m for m in (_matrix(file[n]) for n in there) if _whole(m)), None)
        if found is None:
            found = _matrix(file[there[-1]])
        return found if keep is None else found[_cells_of(file, path, *keep)]


def read_10x(path: Path) -> Any:
    """Return a 10x HDF5 matrix, stored genes x cells; of several feature types, gene expression alone."""
    import scipy.sparse

    with _open(path, "10x .h5") as file:
        group = next((file[name] for name in ("matrix", *file) if name in file and "indptr" in file[name]), None)
        if group is None:
            raise DataError(path, "no_counts", "is no 10x matrix (it has no group with data, indices and indptr)")
        shape = tuple(int(n) for n in np.asarray(group["shape"]))
        parts = tuple(np.asarray(group[name]) for name in ("data", "indices", "indptr"))
        cells = scipy.sparse.csr_array(parts, shape=shape[::-1])
        kinds = np.asarray(group["features/feature_type"]) if "features/feature_type" in group else None
        return cells if kinds is None else cells[:, np.flatnonzero(kinds == GENE_EXPRESSION)]


@contextmanager
def _open(path: Path, form: str) -> Iterator[Any]:
    """Open an HDF5 file for a block. Faults inside the block become DataErrors."""
    try:
        import h5py
    except ImportError as error:
        words = f'reading {form} wants h5py: pip install "sia-flow[denoise]"'
        raise DataError(path, "unreadable", words) from error
    with reading(path, form), h5py.File(path, "r") as file:
        yield file


def _matrix(stored: Any) -> Any:
    """Return a matrix by anndata's on-disk format: an array, or a sparse group."""
    import scipy.sparse

    if not hasattr(stored, "keys"):
        return np.asarray(stored)
    attributes = stored.attrs
    kind = str(attributes.get("encoding-type", attributes.get("h5sparse_format")))
    shape = tuple(int(n) for n in attributes.get("shape", attributes.get("h5sparse_shape")))
    parts = tuple(np.asarray(stored[name]) for name in ("data", "indices", "indptr"))
    form = scipy.sparse.csr_array if kind.startswith("csr") else scipy.sparse.csc_array
    return form(parts, shape=shape).tocsr()


def _cells_of(file: Any, path: Path, column: str, value: str) -> NDArray[np.int64]:
    """Return the rows whose obs column holds a value; categories and plain strings are read."""
    stored = file.get(f"obs/{column}")
    if stored is None:
        there = ", ".join(sorted(file["obs"])) if "obs" in file else "nothing"
        raise DataError(path, "bad_labels", f"obs has no column {column!r}; it has {there}")
    if hasattr(stored, "keys"):
        values = np.asarray(stored["categories"]).astype(str)[np.asarray(stored["codes"])]
    else:
        values = np.asarray(stored.asstr()[:] if stored.dtype.kind == "O" else stored).astype(str)
    rows = np.flatnonzero(values == value)
    if not len(rows):
        raise DataError(path, "bad_labels", f"no cell has {column} = {value!r}; there are {', '.join(set(values))}")
    return rows


def _whole(matrix: Any) -> bool:
    stored = np.asarray(matrix.data if hasattr(matrix, "indptr") else matrix)
    return stored.dtype.kind in "iuf" and bool((np.rint(stored) == stored).all())
