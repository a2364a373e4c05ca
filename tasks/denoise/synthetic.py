"""Synthetic counts with a known truth: negative-binomial noise on groups, trajectories and library sizes.

The truth is the expected count of every gene in every cell, before any noise; the search never sees it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import derive_seed
from sia_flow.errors import TaskError


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a synthetic data set is made from."""

    cells: int = 500
    genes: int = 1000
    groups: int = 5
    library: float = 1500.0
    """Median molecules of a cell."""
    dispersion: float = 0.1
    """Variance = mean + dispersion mean^2."""
    seed: int = 0

    def check(self) -> None:
        """Raise TaskError where a value makes no sense."""
        if self.cells < 30 or self.genes < 10 or not 1 <= self.groups <= self.cells:
            raise TaskError("synthetic: wants at least 30 cells, 10 genes and 1..cells groups")
        if self.library <= 0 or self.dispersion <= 0:
            raise TaskError("synthetic: library and dispersion must be above zero")


FULL = Recipe(cells=1937, genes=17_000, groups=14, library=5000.0)
"""A twin in size of the pancreas set (inDrop1) that the papers report on."""


def generate(recipe: Recipe) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return counts and their expectation, both [cells, genes]."""
    recipe.check()
    random = np.random.Generator(np.random.PCG64(derive_seed("synthetic counts", asdict(recipe))))
    profiles = _profiles(recipe, random)
    libraries = random.lognormal(np.log(recipe.library), 0.35, recipe.cells)
    truth = libraries[:, None] * profiles
    shape = 1.0 / recipe.dispersion
    counts = random.poisson(random.gamma(shape, truth / shape))
    return counts.astype(np.int32), truth


def _profiles(recipe: Recipe, random: np.random.Generator) -> NDArray[np.float64]:
    """Return each cell's share of every gene: a point on its group's way from start to end."""
    base = random.normal(0.0, 1.5, recipe.genes)
    starts = base + _changes(recipe, random, 1.2)
    ends = starts + _changes(recipe, random, 0.8)
    group = np.arange(recipe.cells) % recipe.groups
    time = random.uniform(0.0, 1.0, recipe.cells)[:, None]
    logs = (1.0 - time) * starts[group] + time * ends[group]
    shares: NDArray[np.float64] = np.exp(logs)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _changes(recipe: Recipe, random: np.random.Generator, size: float) -> NDArray[np.float64]:
    """Return log fold changes [groups, genes] in which one gene in five takes part."""
    shape = (recipe.groups, recipe.genes)
    return random.normal(0.0, size, shape) * (random.uniform(size=shape) < 0.2)
