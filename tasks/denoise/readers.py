"""The user's own counts from .h5ad, 10x .h5, a folder with matrix.mtx, .csv(.gz), .tsv(.gz) or .npz: cells x genes.

Invariant: what is returned are whole, finite numbers that are not negative; anything else is a DataError with the
remedy and a reason code. Matrices stay sparse until they are filtered, so that a large file costs what it holds.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.denoise.faults import DataError, reading
from tasks.denoise.hdf5 import read_10x, read_h5ad

TABLES = {".csv": ",", ".tsv": "\t"}


def read_counts(path: Path, keep: tuple[str, str] | None = None) -> Any:
    """Return the counts [cells, genes] of a file or folder as a scipy CSR array of int32.

    `keep` = (column, value) takes only the cells whose obs column of an .h5ad says so. Raises DataError.
    """
    if not path.exists():
        raise DataError(path, "missing", "no such file or folder")
    kind = format_of(path)
    if kind is None:
        raise DataError(path, "unknown_format", f"counts are read from {', '.join(READERS)}; this is none of them")
    if keep is not None and kind != ".h5ad":
        raise DataError(path, "unknown_format", "cells can be chosen by an obs column in .h5ad only")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(path, "empty", "the file is empty")
    if kind == ".h5ad":
        return check_counts(read_h5ad(path, keep), path)
    return check_counts(READERS[kind](path), path)


def format_of(path: Path) -> str | None:
    """Return the key of READERS for a path, or None."""
    if path.is_dir():
        return "a folder with matrix.mtx" if _beside(path, "matrix.mtx") else None
    name = path.name.lower().removesuffix(".gz")
    return next((kind for kind in READERS if name.endswith(kind)), None)


def check_counts(values: Any, path: Path) -> Any:
    """Return a matrix, dense or sparse, as CSR of int32. Raises DataError where it holds no counts."""
    import scipy.sparse

    if getattr(values, "ndim", 0) != 2:
        raise DataError(path, "bad_shape", f"wants a matrix of cells x genes, found shape {np.shape(values)}")
    if not np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.complexfloating):
        raise DataError(path, "not_numbers", f"holds {values.dtype} values, which are no finite numbers")
    sparse = scipy.sparse.csr_array(values)
    sparse.sum_duplicates()
    stored = sparse.data
    if not np.isfinite(stored).all():
        raise DataError(path, "not_finite", "holds NaN or infinite values, which are not finite numbers")
    if stored.size and stored.min() < 0:
        raise DataError(path, "negative", "holds negative values; give raw counts, not scaled or corrected values")
    if (np.rint(stored) != stored).any():
        raise DataError(path, "not_counts", _looks_like(stored))
    if stored.size and stored.max() > np.iinfo(np.int32).max:
        raise DataError(path, "too_large", f"holds {stored.max():.3g}, which is no count of molecules")
    return sparse.astype(np.int32)


def _read_mtx(path: Path) -> Any:
    """Return a Matrix Market folder as 10x writes it: genes x cells, with features and barcodes beside it."""
    import scipy.io
    import scipy.sparse

    file = _beside(path, "matrix.mtx")
    assert file is not None
    with reading(file, "Matrix Market"):
        matrix = scipy.sparse.csr_array(scipy.io.mmread(file))
    genes = _count_lines(_beside(path, "features.tsv") or _beside(path, "genes.tsv"))
    cells = _count_lines(_beside(path, "barcodes.tsv"))
    for name, listed, axis in (("features", genes, 0), ("barcodes", cells, 1)):
        if listed is not None and listed != matrix.shape[axis]:
            words = f"matrix.mtx has {matrix.shape[axis]} on the axis of {name}.tsv, which lists {listed}"
            raise DataError(path, "bad_labels", words)
    return matrix.T.tocsr()


def _read_table(path: Path) -> Any:
    """Return a table: a row a cell, its name in the first column, gene names in the first row."""
    import pandas as pd  # type: ignore[import-untyped]

    separator = TABLES[Path(path.name.lower().removesuffix(".gz")).suffix]
    with reading(path, "a table"):
        table = pd.read_csv(path, sep=separator, index_col=0, low_memory=False)
    if table.empty:
        raise DataError(path, "empty", "the table has no values; wants a row a cell and a column a gene")
    if table.index.has_duplicates or table.columns.has_duplicates:
        raise DataError(path, "bad_labels", "a cell or a gene is named twice")
    wrong = [str(name) for name, kind in table.dtypes.items() if kind.kind not in "iuf"]
    if wrong:
        raise DataError(path, "not_numbers", f"column {wrong[0]!r} holds values that are not finite numbers")
    return table.to_numpy()


def _read_npz(path: Path) -> Any:
    with reading(path, ".npz"), np.load(path, allow_pickle=False) as file:
        if "counts" not in file:
            words = f"has no array named counts; it holds {', '.join(file.files) or 'nothing'}"
            raise DataError(path, "no_counts", words)
        return np.asarray(file["counts"])


READERS: dict[str, Callable[[Path], Any]] = {
    ".h5ad": read_h5ad,
    ".h5": read_10x,
    ".npz": _read_npz,
    ".csv": _read_table,
    ".tsv": _read_table,
    "a folder with matrix.mtx": _read_mtx,
}


def _looks_like(stored: NDArray[Any]) -> str:
    """Return what values that are not whole seem to be, with the remedy."""
    guess = "log-normalised values" if stored.max() < 20 else "normalised values"
    return (
        f"holds {guess} ({stored[np.rint(stored) != stored][0]:.4g} is no count, the largest is {stored.max():.4g}); "
        "give raw counts, not normalised or logged values: in .h5ad as layers/counts, raw/X or X"
    )


def _beside(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _count_lines(path: Path | None) -> int | None:
    return None if path is None else sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        yield from (line for line in file if line.strip())
