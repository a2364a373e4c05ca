"""The user's own data made into a data set: filtered as OpenProblems filters, capped in size, named by its content.

Invariant: neither the file's name nor its container enters what is hashed, so that the same counts give the same
data set from wherever they are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import digest, digest_bytes
from tasks.denoise.faults import DataError
from tasks.denoise.readers import read_counts

MIN_CELLS, MIN_GENES = 70, 20
MAX_CELLS, MAX_GENES = 2000, 20_000
CELL_MOLECULES = 2
"""OpenProblems v1 drops genes that no cell has and cells with fewer molecules than this."""
CAP_SEED = 20260527


def prepare_own(path: Path, keep: tuple[str, str] | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the meta of the user's counts. Raises DataError."""
    raw = read_counts(path, keep)
    counts, filters = select(raw, path)
    content = digest([list(counts.shape), digest_bytes(np.ascontiguousarray(counts).tobytes())])
    about = {"name": f"own-{content[:12]}", "source": "own data", "filters": filters, "notes": _describe(filters)}
    return {"counts": counts}, about


def select(raw: Any, path: Path) -> tuple[NDArray[np.int32], dict[str, int]]:
    """Return the counts [cells, genes] that are kept of a sparse matrix, dense, and what was dropped and why.

    Genes without a molecule go first, then cells with fewer than two; of more than 2,000 cells a seeded sample
    stays, of more than 20,000 genes those with the most molecules.
    """
    genes = np.flatnonzero(np.asarray(raw.sum(axis=0)).ravel() > 0)
    cells = np.flatnonzero(np.asarray(raw.sum(axis=1)).ravel() >= CELL_MOLECULES)
    _enough(len(cells), len(genes), raw.shape, path)
    kept_cells, kept_genes = _cap_cells(cells), genes
    if len(genes) > MAX_GENES:
        totals = np.asarray(raw[kept_cells].sum(axis=0)).ravel()[genes]
        kept_genes = np.sort(genes[np.argsort(-totals, kind="stable")[:MAX_GENES]])
    dense: NDArray[np.int32] = raw[kept_cells][:, kept_genes].toarray()
    filters = {
        "cells_read": int(raw.shape[0]),
        "genes_read": int(raw.shape[1]),
        "cells_below_two_molecules": int(raw.shape[0] - len(cells)),
        "genes_without_molecule": int(raw.shape[1] - len(genes)),
        "cells_over_the_cap": len(cells) - len(kept_cells),
        "genes_over_the_cap": len(genes) - len(kept_genes),
    }
    return dense, filters


def _describe(filters: dict[str, int]) -> list[str]:
    """Return what was left out, a line each, for people; nothing where all was kept."""
    words = {
        "cells_below_two_molecules": "cells with fewer than 2 molecules were dropped",
        "genes_without_molecule": "genes without a molecule were dropped",
        "cells_over_the_cap": f"cells were left out: a data set holds {MAX_CELLS}, drawn with a fixed seed",
        "genes_over_the_cap": f"genes were left out: the {MAX_GENES} with the most molecules stay",
    }
    return [f"{filters[key]} of the {key.partition('_')[0]}: {text}" for key, text in words.items() if filters.get(key)]


def _cap_cells(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(cells) <= MAX_CELLS:
        return cells
    random = np.random.Generator(np.random.PCG64(CAP_SEED))
    return np.sort(random.choice(cells, MAX_CELLS, replace=False))


def _enough(cells: int, genes: int, shape: tuple[int, ...], path: Path) -> None:
    found = f"found {cells} x {genes} after the filters (shape {shape[0]} x {shape[1]} as read)"
    wanted = f"wants at least {MIN_CELLS} cells x {MIN_GENES} genes"
    if cells < MIN_CELLS:
        raise DataError(path, "too_few_cells", f"{wanted}, {found}; is the matrix cells x genes?")
    if genes < MIN_GENES:
        raise DataError(path, "too_few_genes", f"{wanted}, {found}")
