from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasks.denoise import kit

values = arrays.arrays(np.float64, (12, 7), elements=st.floats(0, 50).map(lambda v: round(v, 3)))


def cells(seed: int = 0, shape: tuple[int, int] = (40, 15)) -> np.ndarray:
    random = np.random.default_rng(seed)
    counts = random.poisson(random.gamma(0.8, 3.0, shape)).astype(float)
    counts[:, 0] += 1
    return counts


@given(values)
def test_transforms_undo_each_other(x: np.ndarray) -> None:
    assert np.allclose(kit.inverse_freeman_tukey(kit.freeman_tukey(x)), x, atol=1e-9)
    assert np.allclose(kit.inverse_anscombe(kit.anscombe(x)), x, atol=1e-9)


@given(values)
def test_rescale_undoes_normalisation(x: np.ndarray) -> None:
    normal = kit.library_normalize(x)
    assert np.allclose(kit.rescale(normal, x), x)
    sums = normal.sum(axis=1)
    assert np.allclose(sums[x.sum(axis=1) > 0], 1e4)
    assert (sums[x.sum(axis=1) == 0] == 0).all()


@given(values, st.floats(0.2, 3.0))
def test_power_keeps_totals_and_order(x: np.ndarray, exponent: float) -> None:
    raised = kit.power(x, exponent)
    assert np.allclose(raised.sum(axis=1), x.sum(axis=1))
    for before, after in zip(x, raised, strict=True):
        assert (np.diff(after[np.argsort(before)]) >= -1e-9).all()


def test_totals_are_matched() -> None:
    counts = cells()
    estimate = np.random.default_rng(1).uniform(0.1, 1.0, counts.shape)
    assert np.allclose(kit.rescale(estimate, counts).sum(axis=1), counts.sum(axis=1))
    assert np.allclose(kit.match_genes(estimate, counts).sum(axis=0), counts.sum(axis=0))


def test_affinity_follows_its_definition() -> None:
    x = np.sqrt(cells(3))
    knn, n_pca, decay = 4, 6, 2.0
    centred = x - x.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    scores = (left * singular)[:, :n_pca]
    distance = np.linalg.norm(scores[:, None] - scores[None], axis=2)
    kernel = np.zeros_like(distance)
    for row, away in enumerate(distance):
        order = np.argsort(away)
        bandwidth = away[order[knn]]
        for near in order[: 3 * knn + 1]:
            weight = np.exp(-((away[near] / bandwidth) ** decay))
            kernel[row, near] = weight if weight >= 1e-4 else 0.0
    kernel = (kernel + kernel.T) / 2
    expected = kernel / kernel.sum(axis=1, keepdims=True)
    assert np.allclose(kit.affinity(x, knn, n_pca, decay), expected, atol=1e-6)


def plain_affinity(x: np.ndarray, knn: int, n_pca: int, decay: float) -> np.ndarray:
    scores = kit.factorize(x).scores[:, :n_pca]
    squares = np.einsum("ij,ij->i", scores, scores)
    squared = squares[:, None] + squares[None, :] - 2.0 * (scores @ scores.T)
    np.fill_diagonal(squared, 0.0)
    distances = np.sqrt(np.maximum(squared, 0.0))
    keep = min(3 * knn + 1, len(x))
    order = np.argpartition(distances, keep - 1, axis=1)[:, :keep]
    nearest = np.take_along_axis(distances, order, axis=1)
    bandwidth = np.maximum(np.partition(nearest, knn, axis=1)[:, knn], 1e-12)
    kernel = np.exp(-((nearest / bandwidth[:, None]) ** decay))
    kernel[kernel < 1e-4] = 0.0
    full = np.zeros(distances.shape)
    np.put_along_axis(full, order, kernel, axis=1)
    full += full.T.copy()
    return full / full.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("knn", "n_pca", "decay"), [(5, 100, 1.0), (1, 3, 0.5), (30, 20, 15.0), (299, 100, 1.0)])
def test_blocks_change_no_bit_of_the_affinity(knn: int, n_pca: int, decay: float) -> None:
    x = np.sqrt(cells(12, (301, 40)))
    x[7] = x[8]
    assert len(list(kit.blocks((301, 301)))) > 1
    assert np.array_equal(kit.affinity(x, knn, n_pca, decay), plain_affinity(x, knn, n_pca, decay))


@given(st.integers(1, 300), st.integers(1, 200_000))
def test_blocks_make_up_the_matrix(rows: int, columns: int) -> None:
    assert [row for block in kit.blocks((rows, columns)) for row in range(rows)[block]] == list(range(rows))


def test_affinity_rows_are_distributions_even_for_equal_cells() -> None:
    x = np.tile(np.arange(8.0), (20, 1))
    p = kit.affinity(x, knn=50)
    assert np.allclose(p.sum(axis=1), 1.0)
    assert (p >= 0).all()


@pytest.mark.parametrize("t", [0, 1, 2, 3, 7])
def test_diffusion_is_a_matrix_power(t: int) -> None:
    x = np.sqrt(cells(4))
    p = kit.affinity(x)
    expected = x
    for _ in range(t):
        expected = p @ expected
    assert np.allclose(kit.diffuse(p, x, t), expected)
    wide = np.hstack([x] * 20)
    assert np.allclose(kit.diffuse(p, wide, t), np.hstack([expected] * 20))
    assert np.allclose(kit.diffuse_pca(p, x, t), expected, atol=1e-9), "with all components it is exact"


def test_low_rank_is_the_best_of_its_rank() -> None:
    x = cells(5)
    mean = x.mean(axis=0)
    left, singular, right = np.linalg.svd(x - mean, full_matrices=False)
    expected = (left[:, :3] * singular[:3]) @ right[:3] + mean
    assert np.allclose(kit.low_rank(x, 3), expected)
    assert np.allclose(kit.low_rank(x, 100), x)
    tall = kit.low_rank(x.T.copy(), 3)
    assert np.linalg.matrix_rank(tall - x.T.mean(axis=0), tol=1e-6) == 3


def test_blends_stay_between() -> None:
    x, y = cells(6), cells(7)
    assert np.allclose(kit.blend(x, y, 0.25), 0.75 * x + 0.25 * y)
    assert np.allclose(kit.shrink(x, 1.0), x.mean(axis=0))
    assert np.allclose(kit.contrast(x, 0.0), x)
    assert (kit.contrast(x, 2.0).var(axis=0) >= x.var(axis=0)).all()


def test_a_cache_never_changes_a_result() -> None:
    counts = cells(8, (30, 12))
    x = np.sqrt(kit.library_normalize(counts))
    kit._factors.clear()
    cold = kit.affinity(x)
    kit._factors.clear()
    kit.warm({"counts": counts})
    known = len(kit._factors)
    assert np.array_equal(kit.affinity(x), cold)
    assert len(kit._factors) == known, "the usual transform was factorised beforehand"
    kit.affinity(x + 1e-9)
    assert len(kit._factors) == known + 1


def test_a_matrix_given_away_is_kept_without_a_copy() -> None:
    x = np.sqrt(cells(13))
    kit._factors.clear()
    borrowed = kit.factorize(x)
    assert x.flags.writeable
    assert not np.shares_memory(borrowed.source, x)
    kit._factors.clear()
    given_away = kit.adopt(x)
    assert given_away.source is x
    assert not x.flags.writeable
    assert kit.adopt(x.copy()) is kit.factorize(x) is given_away
    assert np.array_equal(kit.diffusion(given_away), kit.affinity(x))
    assert np.array_equal(given_away.loadings, borrowed.loadings)


def test_finite_values_of_an_infinite_sum_are_finite() -> None:
    x = np.full((3, 4), 1e308)
    assert np.array_equal(kit.blend(x, x, 0.0), x)
    for odd in (np.nan, np.inf, -np.inf):
        x[1, 1] = odd
        with pytest.raises(ValueError, match="not finite"):
            kit.blend(x, x, 0.0)


def test_the_cache_cannot_be_written_through() -> None:
    parts = kit.factorize(np.sqrt(cells(9)))
    with pytest.raises(ValueError, match="read-only"):
        parts.scores[0, 0] = 1.0


def test_arguments_are_left_as_they_are() -> None:
    counts = cells(10)
    kept = counts.copy()
    counts.flags.writeable = False
    p = kit.affinity(np.sqrt(kit.library_normalize(counts)))
    for result in (kit.diffuse(p, counts, 0), kit.contrast(counts, 1.0), kit.power(counts, 2.0)):
        result[:] = -1.0
    assert np.array_equal(counts, kept)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: kit.library_normalize(x[0]),
        lambda x: kit.library_normalize(x * np.nan),
        lambda x: kit.library_normalize(x, scale=0),
        lambda x: kit.rescale(x, x[:5]),
        lambda x: kit.affinity(x, knn=0),
        lambda x: kit.affinity(x, knn=2.5),
        lambda x: kit.affinity(x, n_pca=0),
        lambda x: kit.affinity(x, decay=-1),
        lambda x: kit.affinity(x, decay=float("nan")),
        lambda x: kit.diffuse(x, x),
        lambda x: kit.diffuse(kit.affinity(x), x, t=1000),
        lambda x: kit.power(x, 0),
        lambda x: kit.blend(x, x, 2),
        lambda x: kit.freeman_tukey(x - 100),
        lambda x: kit.low_rank(x, 0),
    ],
)
def test_odd_arguments_raise_value_error(call: object) -> None:
    with pytest.raises(ValueError, match=r"must|differ|not finite|negative"):
        call(cells(11))
