"""Prepared data sets: one folder with `counts.npz` and `meta.json`, the same bytes whenever they are made
again.

Cells are divided once, by a fixed seed, into train, select and sealed in the proportion 3 : 2 : 2; no cell
is in two splits. `python -m tasks.denoise.data pbmc data/denoise/pbmc` is what the DVC stage runs.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import canonical_json, digest_bytes
from sia_flow.errors import SiaFlowError, TaskError
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Split
from tasks.denoise.own import prepare_own
from tasks.denoise.pbmc import SOURCE, read_pbmc
from tasks.denoise.readers import READERS, format_of
from tasks.denoise.synthetic import FULL, Recipe, generate

SCHEMA = "sia-flow/denoise-data@1"
SPLITS: tuple[Split, ...] = ("train", "select", "sealed")
SHARES = (3, 2, 2)
SPLIT_SEED = 20260527


@dataclass(frozen=True, slots=True)
class DataSet:
    """A prepared data set. `digest` is the hash of its meta.json, which holds the hash of its arrays."""

    name: str
    counts: NDArray[np.int32]
    cells: dict[Split, NDArray[np.int64]]
    """Rows of each split."""
    truth: NDArray[np.float64] | None
    digest: str = field(default="")


def prepare(name: str, out: Path, recipe: Recipe | None = None, keep: tuple[str, str] | None = None) -> dict[str, Any]:
    """Make `pbmc`, `synthetic`, `synthetic_full` or the user's own file under `out` and return its meta.

    `keep` = (obs column, value) takes those cells of an .h5ad. Raises TaskError for an unknown name or a package that
    is missing, DataError for a file that cannot be used.
    """
    arrays, about = _collect(name, recipe or Recipe(), keep)
    counts = arrays["counts"]
    arrays["split"] = _divide(counts.shape[0])
    packed = _pack(arrays)
    meta = {
        "schema": SCHEMA,
        "cells": int(counts.shape[0]),
        "genes": int(counts.shape[1]),
        "molecules": int(counts.sum(dtype=np.int64)),
        "splits": {s: int((arrays["split"] == i).sum()) for i, s in enumerate(SPLITS)},
        "split_seed": SPLIT_SEED,
        "files": {"counts.npz": digest_bytes(packed)},
        **about,
    }
    write_atomic(out / "counts.npz", packed)
    write_atomic(out / "meta.json", json.dumps(meta, indent=2, sort_keys=True).encode() + b"\n")
    return meta


def load(folder: Path) -> DataSet:
    """Read a prepared data set and check its digest. Raises TaskError that says how to prepare it."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        packed = (folder / "counts.npz").read_bytes()
    except (OSError, ValueError) as error:
        raise TaskError(f"{folder} holds no prepared data set of denoise: run `sia-flow prepare`") from error
    if meta.get("schema") != SCHEMA:
        raise TaskError(f"{folder}/meta.json has schema {meta.get('schema')!r}, not {SCHEMA!r}: prepare it again")
    if digest_bytes(packed) != meta["files"]["counts.npz"]:
        raise TaskError(f"{folder}/counts.npz is not what meta.json describes: prepare it again")
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        split = file["split"]
        cells = {s: np.flatnonzero(split == i) for i, s in enumerate(SPLITS)}
        truth = file.get("truth")
        return DataSet(meta["name"], file["counts"], cells, truth, digest_bytes(canonical_json(meta)))


def _collect(name: str, recipe: Recipe, keep: tuple[str, str] | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    if name == "pbmc":
        return {"counts": read_pbmc()}, {"name": "pbmc", "source": SOURCE}
    if name in ("synthetic", "synthetic_full"):
        recipe = FULL if name == "synthetic_full" else recipe
        counts, truth = generate(recipe)
        return {"counts": counts, "truth": truth}, {
            "name": name,
            "source": "generated",
            "recipe": asdict(recipe),
        }
    path = Path(name)
    if path.exists() or format_of(path) is not None:
        return prepare_own(path, keep)
    forms = ", ".join(READERS)
    raise TaskError(f"no data set {name!r} for denoise: give pbmc, synthetic, synthetic_full, or a path to {forms}")


def _divide(cells: int) -> NDArray[np.uint8]:
    """Return the split of each cell: 0 train, 1 select, 2 sealed."""
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(cells)
    bounds = [cells * sum(SHARES[:i]) // sum(SHARES) for i in range(len(SHARES) + 1)]
    split = np.empty(cells, dtype=np.uint8)
    for index in range(len(SHARES)):
        split[order[bounds[index] : bounds[index + 1]]] = index
    return split


def _pack(arrays: dict[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a data set from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.denoise.data", description="Prepare data of the task denoise."
    )
    parser.add_argument("name", help=f"pbmc, synthetic, synthetic_full, or raw counts: {', '.join(READERS)}")
    parser.add_argument("out", type=Path, help="folder to write, for example data/denoise/pbmc")
    for option in ("cells", "genes", "groups", "seed"):
        parser.add_argument(f"--{option}", type=int, default=getattr(Recipe(), option), help="synthetic only")
    parser.add_argument("--keep", metavar="COLUMN=VALUE", help="only the cells whose obs column of an .h5ad says so")
    given = parser.parse_args(arguments)
    column, _, value = (given.keep or "").partition("=")
    recipe = Recipe(cells=given.cells, genes=given.genes, groups=given.groups, seed=given.seed)
    try:
        meta = prepare(given.name, given.out, recipe, (column, value) if given.keep else None)
    except SiaFlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{given.out}: {meta['cells']} cells x {meta['genes']} genes, {meta['molecules']} molecules\n")
    sys.stdout.writelines(f"  {line}\n" for line in meta.get("notes", ()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
