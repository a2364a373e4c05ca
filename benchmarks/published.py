"""Holds the published constants of denoising against the user's copy of the set that they were measured on.

`python benchmarks/published.py pancreas.h5ad [--keep tech=inDrop1]`: the whole matrix, divided by seed 42 as
OpenProblems v1 divides, its base error and MAGIC's score beside the published ones. The set (figshare, 16,382 cells
of several technologies) is not redistributed here; other counts may be given to see the figures alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tasks.denoise import mcv, own, scoring  # noqa: E402
from tasks.denoise.baselines import magic  # noqa: E402
from tasks.denoise.readers import read_counts  # noqa: E402

SHAPE = (1937, 15502)
"""Cells and genes of pancreas inDrop1 after the filters, with at least one train molecule."""
PUBLISHED = {"base mse": (0.304721, 1e-3), "MAGIC mse_norm": (0.240, 5e-3)}
"""Figure -> value as published, and how far ours may be from it."""


def measure(path: Path, keep: tuple[str, str] | None) -> tuple[tuple[int, int], dict[str, float]]:
    """Return the shape that was scored, and the figures."""
    counts, _ = own.select(read_counts(path, keep), path)
    halves = mcv.divide(counts, 42)
    reference = scoring.make_reference(halves.train, halves.test)
    found = scoring.measure(magic(halves.train), reference)
    cells, genes = halves.train.shape
    return (cells, genes), {"base mse": reference.base_mse, "MAGIC mse_norm": found["mse_norm"]}


def main() -> int:
    """Print the comparison; 1 where the set is the published one and a figure is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--keep", help="COLUMN=VALUE of obs; tech=inDrop1 for pancreas")
    given = parser.parse_args()
    column, _, value = (given.keep or "").partition("=")
    shape, figures = measure(given.path, (column, value) if given.keep else None)
    same, off = shape == SHAPE, 0
    print(f"{shape[0]} x {shape[1]}; published: {SHAPE[0]} x {SHAPE[1]}{'' if same else ', so another set'}")
    for name, (published, slack) in PUBLISHED.items():
        agrees = abs(figures[name] - published) <= slack
        off += same and not agrees
        verdict = ("agrees" if agrees else "DIFFERS") if same else "not compared"
        print(f"{name:16s} {figures[name]:.6f}  published {published:.6f}  {verdict}")
    return int(off > 0)


if __name__ == "__main__":
    sys.exit(main())
