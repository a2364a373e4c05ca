"""Toolkit of the task denoise: what a candidate program may call, on numpy alone.

It travels into the sandbox as the module `denoise_kit`. Every function is deterministic, leaves its
arguments as they are and raises ValueError for arguments that make no sense. Matrices are cells x genes,
float64. PCA factors of the usual transforms are computed once by `warm` and shared by all forks; a hit is a
byte-equal matrix, so a cache never changes a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]

SCALE = 1e4
COMPONENTS = 100
CUTOFF = 1e-4
CACHED = 32
EXACT = 1024
"""Up to this many cells or genes the PCA is exact; beyond, it is by a seeded random projection (Halko et al. 2011)."""
SKETCH, PASSES = 120, 3
BLOCK = 1 << 16
"""Values that passes over whole matrices take at a time: a block stays in the cache, and its room is used again."""


@dataclass(frozen=True, slots=True)
class Factors:
    """PCA of one matrix: `centred ~ scores @ loadings`, components by falling variance."""

    source: Matrix
    mean: Matrix
    scores: Matrix
    loadings: Matrix


_factors: list[Factors] = []


def library_normalize(counts: ArrayLike, scale: float = SCALE) -> Matrix:
    """Return counts divided by their cell's library size, times `scale`; an empty cell stays zero."""
    matrix = _matrix(counts, "counts")
    return matrix * (_number(scale, "scale", 1e-12, 1e12) / _library(matrix))[:, None]


def rescale(y: ArrayLike, counts: ArrayLike) -> Matrix:
    """Return y with each cell scaled to its observed library size, which undoes `library_normalize`."""
    values, observed = _pair(y, counts)
    return values * _ratio(observed.sum(axis=1), values.sum(axis=1))[:, None]


def match_genes(y: ArrayLike, counts: ArrayLike) -> Matrix:
    """Return y with each gene scaled so that its total equals the gene's observed total."""
    values, observed = _pair(y, counts)
    return values * _ratio(observed.sum(axis=0), values.sum(axis=0))[None, :]


def anscombe(x: ArrayLike) -> Matrix:
    """Return 2 sqrt(x + 3/8), which stabilises the variance of Poisson counts (Anscombe 1948)."""
    return 2.0 * np.sqrt(_nonnegative(x) + 0.375)


def inverse_anscombe(y: ArrayLike) -> Matrix:
    """Return (y/2)^2 - 3/8, not below zero."""
    return np.maximum(np.square(_matrix(y, "y") / 2.0) - 0.375, 0.0)


def freeman_tukey(x: ArrayLike) -> Matrix:
    """Return sqrt(x) + sqrt(x + 1) - 1, zero at zero (Freeman and Tukey 1950)."""
    matrix = _nonnegative(x)
    return np.sqrt(matrix) + np.sqrt(matrix + 1.0) - 1.0


def inverse_freeman_tukey(y: ArrayLike) -> Matrix:
    """Return the x with `freeman_tukey(x) == y`, for y >= 0; below that zero."""
    shifted = np.maximum(_matrix(y, "y"), 0.0) + 1.0
    return np.square((np.square(shifted) - 1.0) / (2.0 * shifted))


def affinity(x: ArrayLike, knn: int = 5, n_pca: int = 100, decay: float = 1.0) -> Matrix:
    """Return the cells x cells diffusion operator P of MAGIC (van Dijk et al. 2018), rows summing to one.

    Distances d are Euclidean in the first `n_pca` components. Each cell's bandwidth is its distance to its
    knn-th neighbour; the kernel exp(-(d / bandwidth)^decay) is kept for 3 knn neighbours and above 1e-4,
    symmetrised by averaging and row-normalised.
    """
    return diffusion(factorize(x), knn, n_pca, decay)


def diffusion(parts: Factors, knn: int = 5, n_pca: int = 100, decay: float = 1.0) -> Matrix:
    """Return what `affinity` returns for the matrix that `parts` is the PCA of."""
    cells = parts.scores.shape[0]
    near = min(_integer(knn, "knn", 1, 10_000), cells - 1)
    scores = parts.scores[:, : _integer(n_pca, "n_pca", 1, 100_000)]
    order, nearest, full = neighbours(scores, min(3 * near + 1, cells))
    bandwidth = np.maximum(np.partition(nearest, near, axis=1)[:, near], 1e-12)
    kernel = np.exp(-((nearest / bandwidth[:, None]) ** _number(decay, "decay", 1e-3, 1e3)))
    kernel[kernel < CUTOFF] = 0.0
    cell = np.arange(cells)[:, None]
    full[cell, order] = kernel
    # Nothing but the neighbours' entries and their mirror images is touched: the rest of the matrix is zero.
    kernel = kernel + full[order, cell]
    full[cell, order] = full[order, cell] = kernel
    totals = full.sum(axis=1)
    full[cell, order] = kernel / totals[:, None]
    full[order, cell] = kernel / totals[order]
    return full


def diffuse(p: ArrayLike, x: ArrayLike, t: int = 3) -> Matrix:
    """Return P^t x: every cell averaged with its neighbours, t steps far."""
    operator, matrix = _operator(p, x)
    return _walk(operator, matrix, _integer(t, "t", 0, 64))


def diffuse_pca(p: ArrayLike, x: ArrayLike, t: int = 3, n_pca: int = 100) -> Matrix:
    """Return P^t applied to x in its first `n_pca` components, as MAGIC does by default."""
    operator, matrix = _operator(p, x)
    return diffuse_parts(operator, _factorize(matrix), t, n_pca)


def diffuse_parts(operator: Matrix, parts: Factors, t: int = 3, n_pca: int = 100) -> Matrix:
    """Return what `diffuse_pca` returns for the matrix that `parts` is the PCA of."""
    kept = _integer(n_pca, "n_pca", 1, 100_000)
    smooth: Matrix = _walk(operator, parts.scores[:, :kept], _integer(t, "t", 0, 64)) @ parts.loadings[:kept]
    smooth += parts.mean
    return smooth


def contrast(y: ArrayLike, weight: float) -> Matrix:
    """Return y pushed away from the mean of each gene: y + weight (y - mean), not below zero."""
    matrix = _matrix(y, "y")
    share = _number(weight, "weight", 0.0, 10.0)
    pushed: Matrix = matrix + share * (matrix - matrix.mean(axis=0, keepdims=True))
    return np.maximum(pushed, 0.0, out=pushed)


def low_rank(x: ArrayLike, rank: int = 10) -> Matrix:
    """Return x rebuilt from its first `rank` principal components (at most 100)."""
    parts = factorize(x)
    kept = _integer(rank, "rank", 1, 100_000)
    return parts.scores[:, :kept] @ parts.loadings[:kept] + parts.mean


def power(y: ArrayLike, exponent: float) -> Matrix:
    """Return y^exponent, negatives taken as zero, with each cell's total kept."""
    matrix = np.maximum(_matrix(y, "y"), 0.0)
    raised = matrix ** _number(exponent, "exponent", 0.1, 10.0)
    return raised * _ratio(matrix.sum(axis=1), raised.sum(axis=1))[:, None]


def blend(y: ArrayLike, other: ArrayLike, weight: float) -> Matrix:
    """Return (1 - weight) y + weight other."""
    first, second = _pair(y, other)
    share = _number(weight, "weight", 0.0, 1.0)
    return (1.0 - share) * first + share * second


def shrink(y: ArrayLike, weight: float) -> Matrix:
    """Return y drawn towards the mean of each gene over all cells: (1 - weight) y + weight mean."""
    matrix = _matrix(y, "y")
    share = _number(weight, "weight", 0.0, 1.0)
    drawn: Matrix = (1.0 - share) * matrix + share * matrix.mean(axis=0, keepdims=True)
    return drawn


def factorize(x: ArrayLike) -> Factors:
    """Return the PCA of x with at most 100 components, from the cache where the same matrix was seen."""
    return _factorize(_matrix(x, "x"))


def adopt(matrix: Matrix) -> Factors:
    """Return `factorize(matrix)` of a matrix that is given away: it is kept as it is, and read-only from now on."""
    return _factorize(_matrix(matrix, "matrix"), given=True)


def warm(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Factorise the usual transforms of every counts matrix, once, before the sandbox forks."""
    for counts in arrays.values():
        normal = library_normalize(counts)
        adopt(np.sqrt(normal))
        adopt(np.log1p(normal))
        adopt(freeman_tukey(normal))
        adopt(anscombe(normal))
        adopt(np.sqrt(_matrix(counts, "counts")))


def subspace(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an orthonormal basis of about the span of the first 120 left singular vectors [cells, at most 120]."""
    start = np.random.Generator(np.random.PCG64(0)).standard_normal((small.shape[1], SKETCH), dtype=np.float32)
    basis = _orthonormal(small @ start)
    for _ in range(PASSES):
        basis = _orthonormal(small @ (small.T @ basis))
    return basis


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of rows, of `BLOCK` values or one row each, that make up a matrix of this shape."""
    rows = max(1, BLOCK // shape[1])
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def neighbours(scores: Matrix, count: int) -> tuple[NDArray[np.intp], Matrix, Matrix]:
    """Return each cell's `count` nearest, itself among them: which and how far [cells, count], in no order.

    The third array is zero, cells x cells: the room of the distances, which the caller may fill.
    """
    squares = np.einsum("ij,ij->i", scores, scores)
    room: Matrix = scores @ scores.T
    cells = len(room)
    order, nearest = np.empty((cells, count), np.intp), np.empty((cells, count))
    for rows in blocks(room.shape):
        block = room[rows]
        block *= 2.0
        np.subtract(squares[rows, None] + squares[None, :], block, out=block)
        np.fill_diagonal(block[:, rows], 0.0)
        np.sqrt(np.maximum(block, 0.0, out=block), out=block)
        order[rows] = np.argpartition(block, count - 1, axis=1)[:, :count]
        nearest[rows] = np.take_along_axis(block, order[rows], axis=1)
        block.fill(0.0)
    return order, nearest, room


def _factorize(matrix: Matrix, *, given: bool = False) -> Factors:
    for parts in _factors:
        if _same(parts.source, matrix):
            return parts
    parts = _pca(np.ascontiguousarray(matrix) if given else np.array(matrix, order="C"))
    if len(_factors) < CACHED:
        _factors.append(parts)
    return parts


def _same(one: Matrix, two: Matrix) -> bool:
    """Return whether two matrices are equal; the first block that differs decides."""
    return one.shape == two.shape and all(np.array_equal(one[rows], two[rows]) for rows in blocks(one.shape))


def _pca(matrix: Matrix) -> Factors:
    mean = matrix.mean(axis=0, keepdims=True)
    centred = matrix - mean
    left, singular = _left_vectors(centred)
    scores = left * singular
    loadings = (left / singular).T @ centred
    for part in (matrix, mean, scores, loadings):
        part.flags.writeable = False
    return Factors(matrix, mean, scores, loadings)


def _left_vectors(centred: Matrix) -> tuple[Matrix, Matrix]:
    if min(centred.shape) > EXACT:
        left, singular = _sketched(centred)
    elif centred.shape[0] > centred.shape[1]:
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    else:
        squares, left = np.linalg.eigh(centred @ centred.T)
        left, singular = left[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0.0))
    kept = max(1, int((singular > 1e-9 * max(singular[0], 1e-300)).sum()))
    kept = min(kept, COMPONENTS)
    return np.ascontiguousarray(left[:, :kept]), np.maximum(singular[:kept], 1e-300)


def _sketched(centred: Matrix) -> tuple[Matrix, Matrix]:
    """Return about 120 left singular vectors and values. Single precision finds the space, double what is in it."""
    exact = _orthonormal(subspace(centred.astype(np.float32)).astype(np.float64))
    inside = exact.T @ centred
    squares, turn = np.linalg.eigh(inside @ inside.T)
    return exact @ turn[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0.0))


def _orthonormal(basis: NDArray[Any]) -> NDArray[Any]:
    """Return an orthonormal basis of the columns, by their Gram matrix: one product, where QR would be many."""
    squares, turn = np.linalg.eigh((basis.T @ basis).astype(np.float64))
    kept = squares > squares[-1] * np.finfo(basis.dtype).eps
    found: NDArray[Any] = basis @ (turn[:, kept] / np.sqrt(squares[kept])).astype(basis.dtype)
    return found


def _walk(operator: Matrix, values: Matrix, steps: int) -> Matrix:
    """Return operator^steps @ values, the power first where that is fewer multiplications."""
    products = steps.bit_length() + steps.bit_count() - 2
    if products * operator.shape[0] < (steps - 1) * values.shape[1]:
        operator, steps = np.linalg.matrix_power(operator, steps), 1
    for _ in range(steps):
        values = operator @ values
    return values.copy() if steps == 0 else values


def _library(counts: Matrix) -> Matrix:
    totals: Matrix = counts.sum(axis=1)
    return np.where(totals > 0, totals, 1.0)


def _ratio(wanted: Matrix, found: Matrix) -> Matrix:
    return np.divide(wanted, found, out=np.zeros_like(wanted), where=found > 0)


def _matrix(value: ArrayLike, name: str) -> Matrix:
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} must be a matrix of cells x genes, not of shape {matrix.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        total = matrix.sum()  # one value that is not finite makes it so; beyond that only a sum too large does
    if not np.isfinite(total) and not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds values that are not finite")
    return matrix


def _nonnegative(value: ArrayLike) -> Matrix:
    matrix = _matrix(value, "x")
    if matrix.min() < 0:
        raise ValueError("x holds negative values")
    return matrix


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Matrix, Matrix]:
    one, two = _matrix(first, "y"), _matrix(second, "the second matrix")
    if one.shape != two.shape:
        raise ValueError(f"shapes differ: {one.shape} and {two.shape}")
    return one, two


def _operator(p: ArrayLike, x: ArrayLike) -> tuple[Matrix, Matrix]:
    operator, matrix = _matrix(p, "p"), _matrix(x, "x")
    if operator.shape != (matrix.shape[0], matrix.shape[0]):
        raise ValueError(f"p must be {matrix.shape[0]} x {matrix.shape[0]}, not {operator.shape}")
    return operator, matrix


def _number(value: float, name: str, low: float, high: float) -> float:
    number = float(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must lie in {low:g}..{high:g}, not {number:g}")
    return number


def _integer(value: int, name: str, low: int, high: int) -> int:
    if int(value) != value:
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(_number(value, name, low, high))
