from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sia_flow.errors import TaskError
from tasks.denoise import data, mcv, pbmc
from tasks.denoise.synthetic import Recipe, generate


def test_pbmc_counts_are_recovered_exactly(pbmc: Path) -> None:
    found = data.load(pbmc)
    assert found.counts.shape == (700, 765)
    assert found.counts.sum() == 486651
    assert (found.counts.min(axis=1) == 0).all()
    assert np.array_equal(np.where(found.counts > 0, found.counts, 9**9).min(axis=1), np.ones(700))


def test_recovery_undoes_log1p_per_ten_thousand() -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(1.0, (40, 30))
    counts[:, 0] = 1
    totals = counts.sum(axis=1) + random.integers(0, 500, 40)
    values = np.log1p(1e4 * counts / totals[:, None])
    assert np.array_equal(pbmc.recover_counts(values, totals.astype(float)), counts)


def test_recovery_refuses_what_are_no_counts() -> None:
    values = np.log1p(np.random.default_rng(0).uniform(1, 9, (20, 30)))
    unit = np.expm1(values).min(axis=1)
    with pytest.raises(TaskError, match="not log1p of counts"):
        pbmc.recover_counts(values, 1e4 / unit)
    with pytest.raises(TaskError, match="not one molecule"):
        pbmc.recover_counts(values, 2e4 / unit)


@pytest.mark.parametrize("name", ["pbmc", "synthetic"])
def test_preparing_again_writes_the_same_bytes(name: str, tmp_path: Path) -> None:
    recipe = Recipe(cells=50, genes=30)
    metas = [data.prepare(name, tmp_path / place, recipe) for place in ("a", "b")]
    assert metas[0] == metas[1]
    for file in ("counts.npz", "meta.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_no_cell_is_in_two_splits(pbmc: Path) -> None:
    cells = data.load(pbmc).cells
    assert [len(cells[s]) for s in data.SPLITS] == [300, 200, 200]
    assert sorted(np.concatenate(list(cells.values()))) == list(range(700))
    assert json.loads((pbmc / "meta.json").read_text())["splits"] == {
        "train": 300,
        "select": 200,
        "sealed": 200,
    }


def test_changed_arrays_are_refused(synthetic: Path, tmp_path: Path) -> None:
    for file in ("counts.npz", "meta.json"):
        (tmp_path / file).write_bytes((synthetic / file).read_bytes())
    assert data.load(tmp_path).digest == data.load(synthetic).digest
    with (tmp_path / "counts.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(TaskError, match=r"counts\.npz is not what meta\.json describes"):
        data.load(tmp_path)


def test_a_newer_schema_is_refused(synthetic: Path, tmp_path: Path) -> None:
    meta = json.loads((synthetic / "meta.json").read_text()) | {"schema": "sia-flow/denoise-data@9"}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "counts.npz").write_bytes(b"")
    with pytest.raises(TaskError, match="has schema 'sia-flow/denoise-data@9'"):
        data.load(tmp_path)


def test_synthetic_noise_is_negative_binomial_around_the_truth() -> None:
    recipe = Recipe(cells=1000, genes=200, library=4000, dispersion=0.3)
    counts, truth = generate(recipe)
    residual = counts - truth
    assert np.abs(residual.sum(axis=0) / truth.sum(axis=0)).max() < 0.2
    variance = truth + recipe.dispersion * truth**2
    assert (residual**2).sum() / variance.sum() == pytest.approx(1.0, abs=0.1)
    assert not np.array_equal(counts, generate(Recipe(1000, 200, library=4000, dispersion=0.3, seed=1))[0])


def test_molecules_are_divided_as_published() -> None:
    counts = np.random.default_rng(1).poisson(0.5, (30, 20))
    counts[:, 4] = 0
    halves = mcv.divide(counts, 42)
    expected = np.random.RandomState(42).binomial(counts, 0.9)
    kept = expected.sum(axis=0) > 0
    assert np.array_equal(halves.train, expected[:, kept])
    assert np.array_equal(halves.train + halves.test, counts[:, kept])
    assert 4 not in halves.genes


def test_the_command_line_prepares_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "synthetic"
    assert data.main(["synthetic", str(out), "--cells", "60", "--genes", "30"]) == 0
    assert "60 cells x 30 genes" in capsys.readouterr().out
    assert data.main(["nothing", str(out)]) == TaskError.exit_code
    assert "give pbmc, synthetic, synthetic_full, or a path" in capsys.readouterr().err
