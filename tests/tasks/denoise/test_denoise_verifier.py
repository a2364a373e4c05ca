from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sia_flow.errors import TaskError
from sia_flow.protocols import ArraySpec, Instance
from tasks.denoise import data, kit, mcv, passes, scoring
from tasks.denoise.baselines import magic
from tasks.denoise.synthetic import Recipe, generate
from tasks.denoise.verifier import DenoiseVerifier


def log_normal(a: np.ndarray) -> np.ndarray:
    total = a.sum(axis=1, keepdims=True)
    return np.log1p(1e4 * a / np.where(total > 0, total, 1))


def poisson(d: np.ndarray, test: np.ndarray) -> float:
    return float(np.mean(d - test * np.log(d + 1e-6)))


def test_metrics_are_the_published_ones(guarded: DenoiseVerifier) -> None:
    (instance,) = guarded.instances("train", 1, 0)
    train, test = instance.arrays["counts"], instance.private["test"]
    output = np.random.default_rng(0).gamma(1.0, 1.0, train.shape)
    output[3] = 0
    metrics = scoring.measure(output, scoring.make_reference(train, test))
    scale = test.sum() / train.sum()
    mse, base = (float(np.mean((log_normal(test) - log_normal(a)) ** 2)) for a in (output, train))
    assert metrics["mse"] == pytest.approx(mse, rel=1e-12)
    assert metrics["mse_norm"] == pytest.approx(max(0.0, (base - mse) / base), rel=1e-9)
    low, high = poisson(train * scale, test), poisson(test, test)
    assert metrics["poisson"] == pytest.approx(poisson(output * scale, test), rel=1e-12)
    assert metrics["poisson_norm"] == pytest.approx((low - metrics["poisson"]) / (low - high), rel=1e-12)


def test_blocks_change_no_bit_of_a_score(guarded: DenoiseVerifier) -> None:
    (instance,) = guarded.instances("train", 1, 0)
    train = instance.arrays["counts"]
    assert len(list(kit.blocks(train.shape))) > 1
    targets = [passes.log_normalize(instance.private["test"]), np.random.default_rng(0).gamma(1.0, 1.0, train.shape)]
    for output in (train * 0.3, np.asfortranarray(train)):
        gaps = [(target - passes.log_normalize(output)).ravel() for target in targets]
        expected = [float(gap @ gap) / gap.size for gap in gaps]
        assert passes.squared_distances(output, *targets) == expected
        assert passes.squared_distances(output, targets[0]) == expected[:1]


def test_magic_is_the_plain_formula(guarded: DenoiseVerifier) -> None:
    (instance,) = guarded.instances("train", 1, 0)
    counts = instance.arrays["counts"]
    normal = np.sqrt(kit.library_normalize(counts, scale=1.0))
    smooth = kit.diffuse_pca(kit.affinity(normal), normal)
    assert np.array_equal(magic(counts), np.square(np.maximum(smooth, 0.0)) * counts.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("knn", "t", "n_pca", "decay"), [(5, 3, 100, 1.0), (9, 2, 60, 2.0), (30, 0, 200, 15.0)])
def test_magic_in_single_precision_scores_the_same(knn: int, t: int, n_pca: int, decay: float) -> None:
    counts, truth = generate(Recipe(cells=1100, genes=1200, groups=8, library=4000.0))
    counts[5] = 0
    halves = mcv.divide(counts, 42)
    assert min(halves.train.shape) > kit.EXACT
    reference = scoring.make_reference(halves.train, halves.test, truth[:, halves.genes])
    normal = np.sqrt(kit.library_normalize(halves.train, scale=1.0))
    smooth = kit.diffuse_pca(kit.affinity(normal, knn, n_pca, decay), normal, t, n_pca)
    double = np.square(np.maximum(smooth, 0.0)) * halves.train.sum(axis=1, keepdims=True)
    single = magic(halves.train, knn, t, n_pca, decay)
    assert single.dtype == np.float64
    away = np.abs(single - double).max(axis=1) / np.maximum(double.max(axis=1), 1.0)
    assert (away < 1e-5).mean() > 0.99, "of two neighbours as good as equally far, a few cells may take the other"
    found, wanted = (scoring.measure(output, reference) for output in (single, double))
    assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -1.0])
def test_magic_refuses_odd_counts_of_any_size(odd: float) -> None:
    for cells in (40, 1100):
        counts = np.ones((cells, 1200))
        counts[3, 4] = odd
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="not finite"):
            magic(counts)


def test_halves_lie_row_by_row(pbmc: Path) -> None:
    halves = mcv.divide(data.load(pbmc).counts, 42)
    assert halves.train.flags.c_contiguous
    assert halves.test.flags.c_contiguous


def test_magic_on_all_cells_scores_as_measured_elsewhere(pbmc: Path) -> None:
    halves = mcv.divide(data.load(pbmc).counts, 42)
    metrics = scoring.measure(magic(halves.train), scoring.make_reference(halves.train, halves.test))
    assert metrics["mse_norm"] == pytest.approx(0.081, abs=0.001)
    assert metrics["poisson_norm"] == pytest.approx(0.520, abs=0.002)


def test_the_shipped_loss_lets_a_vanishing_output_pass_and_the_corrected_does_not(pbmc: Path) -> None:
    verifier = DenoiseVerifier("ttt", pbmc)
    (instance,) = verifier.instances("train", 1, 0)
    verdict = verifier.score(instance, instance.arrays["counts"] * 1e-6)
    assert verdict.metrics["poisson_norm_shipped"] > 0.97
    assert verdict.metrics["poisson_norm"] < -1
    train, test = instance.arrays["counts"], instance.private["test"]
    scale = test.sum() / train.sum()

    def shipped(d: np.ndarray) -> float:
        return float(np.mean(test - scale * d * np.log(test + 1e-6)))

    low, high = shipped(train), shipped(test)
    expected = (low - shipped(train * 0.3)) / (low - high)
    reference = scoring.make_reference(train, test)
    assert scoring.shipped_poisson_norm(train * 0.3, train, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x[:-1], "bad_shape"),
        (lambda x: x.astype(np.float32), "bad_shape"),
        (lambda x: x.astype(object), "bad_shape"),
        (lambda x: np.where(np.arange(x.shape[1]) == 3, np.nan, x), "non_finite"),
        (lambda x: np.where(np.arange(x.shape[1]) == 3, np.inf, x), "non_finite"),
        (lambda x: x - 1e-9, "negative"),
        (lambda x: x * 0, "all_zero"),
        (lambda x: np.where(np.arange(x.shape[1]) == 3, x.sum() + 1, x), "too_large"),
    ],
)
@pytest.mark.parametrize("mode", ["guarded", "sia", "ttt"])
def test_rejects_carry_their_reason(pbmc: Path, mode: str, change: object, reason: str) -> None:
    verifier = DenoiseVerifier(mode, pbmc)
    (instance,) = verifier.instances("select", 1, 0)
    verdict = verifier.score(instance, change(instance.arrays["counts"]))
    assert (verdict.reason, verdict.valid, verdict.reward) == (reason, False, 0.0)
    assert verdict.feedback


def test_the_guard_holds_exploitation_in_check(pbmc: Path) -> None:
    free, held = DenoiseVerifier("sia", pbmc), DenoiseVerifier("guarded", pbmc)
    (instance,) = held.instances("train", 1, 0)
    rounded = np.rint(magic(instance.arrays["counts"]))
    ungated, guarded = free.score(instance, rounded), held.score(instance, rounded)
    assert ungated.valid
    assert ungated.reward > 2 * held.baselines(instance)["magic"].reward
    assert (guarded.reward, guarded.reason) == (0.0, "guard")
    assert guarded.metrics["poisson_margin"] < -0.3
    assert "guard broken" in guarded.feedback


def test_baselines_stand_where_they_should(guarded: DenoiseVerifier) -> None:
    for split in data.SPLITS:
        (instance,) = guarded.instances(split, 1, 0)
        found = guarded.baselines(instance)
        assert found["magic"].reward > 0.03
        assert found["magic"].metrics["poisson_margin"] == pytest.approx(0.02)
        assert found["identity"].metrics["mse_norm"] == 0.0
        assert guarded.guards(found["magic"].metrics) == {"poisson": pytest.approx(0.02)}
    assert guarded.guards({}) == {}


def test_instances_are_reproducible_distinct_and_of_their_split(pbmc: Path, guarded: DenoiseVerifier) -> None:
    again = DenoiseVerifier("sia", pbmc).instances("train", 3, 0)
    first = guarded.instances("train", 3, 0)
    assert [i.id for i in first] == [i.id for i in again]
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.arrays["counts"], two.arrays["counts"])
    other = guarded.instances("train", 1, 1)[0]
    divisions = [i.arrays["counts"].sum() for i in (*first, other)]
    assert len(set(divisions)) == 4
    assert len({i.id for i in (*first, other)}) == 4
    stored = data.load(pbmc)
    for split in data.SPLITS:
        (instance,) = guarded.instances(split, 1, 0)
        whole = stored.counts[stored.cells[split]]
        kept = instance.arrays["counts"] + instance.private["test"]
        assert kept.sum() == whole[:, whole.sum(axis=0) > 0].sum() - (whole.sum() - kept.sum())
        assert np.array_equal(np.sort(kept.sum(axis=1))[-5:], np.sort(whole.sum(axis=1))[-5:])


def test_nothing_private_is_public(guarded: DenoiseVerifier, synthetic: Path) -> None:
    for instance in (
        guarded.instances("train", 1, 0)[0],
        DenoiseVerifier("sia", synthetic).instances("train", 1, 0)[0],
    ):
        assert set(instance.arrays) == {"counts"}
        assert set(instance.public) == {"task", "mode", "data", "cells", "genes"}
        assert "private" not in repr(instance)
        cells, genes = instance.returns.shape
        assert instance.arrays["counts"].shape == instance.private["test"].shape == (cells, genes)


def test_the_twin_is_made_from_public_counts_alone(guarded: DenoiseVerifier) -> None:
    (instance,) = guarded.instances("train", 1, 0)
    blind = replace(instance, private={})
    twin, same = guarded.visible(instance), guarded.visible(blind)
    assert np.array_equal(twin.arrays["counts"], same.arrays["counts"])
    kept = np.flatnonzero(twin.arrays["counts"].sum(axis=0) >= 0)
    whole = twin.arrays["counts"] + twin.private["test"]
    assert whole.sum() <= instance.arrays["counts"].sum()
    assert len(kept) == twin.returns.shape[1]
    assert twin.arrays["counts"].sum() == pytest.approx(0.9 * instance.arrays["counts"].sum(), rel=0.01)
    assert twin.id != instance.id
    twin_reward = guarded.baselines(twin)["magic"].reward
    assert twin_reward == pytest.approx(guarded.baselines(instance)["magic"].reward, abs=0.03)


def test_distance_to_the_truth_is_logged_but_never_told(synthetic: Path) -> None:
    verifier = DenoiseVerifier("sia", synthetic)
    (instance,) = verifier.instances("train", 1, 0)
    found = verifier.baselines(instance)
    assert found["identity"].metrics["truth_mse_ratio"] == 1.0
    assert 0 < found["magic"].metrics["truth_mse_ratio"] < 0.6
    exact = verifier.score(instance, np.ascontiguousarray(instance.private["truth"]))
    assert exact.metrics["truth_mse_ratio"] == 0.0
    assert "truth" not in exact.feedback
    assert not [name for name in scoring.without_truth(exact.metrics) if "truth" in name]
    assert set(exact.metrics) - set(scoring.without_truth(exact.metrics)) == {"truth_mse_ratio"}
    assert "truth_mse_ratio" not in verifier.baselines(verifier.visible(instance))["magic"].metrics


def test_digests_tell_modes_and_data_apart(pbmc: Path, synthetic: Path) -> None:
    found = [DenoiseVerifier(mode, pbmc) for mode in ("guarded", "sia", "ttt")]
    assert len({v.digest for v in found}) == 3
    assert len({v.data_digest for v in found}) == 1
    assert DenoiseVerifier("sia", synthetic).digest == found[1].digest
    assert DenoiseVerifier("sia", synthetic).data_digest != found[1].data_digest
    with pytest.raises(TaskError, match="no mode 'best'"):
        DenoiseVerifier("best", pbmc)


def test_a_wrong_declaration_is_no_way_in(guarded: DenoiseVerifier) -> None:
    (instance,) = guarded.instances("train", 1, 0)
    forged = Instance(instance.id, "train", {}, instance.arrays, ArraySpec((1, 1)), instance.private)
    assert guarded.score(forged, np.ones((2, 2))).reason == "bad_shape"
