from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sia_flow.plan.project import Project
from sia_flow.verify.task import load_task
from tasks.denoise import data, own, readers
from tasks.denoise.faults import DataError

h5py = pytest.importorskip("h5py")
sparse = pytest.importorskip("scipy.sparse")

ROOT = Path(__file__).resolve().parents[3]
CELLS, GENES = 90, 30
COUNTS = np.random.default_rng(0).poisson(2.0, (CELLS, GENES)) + (np.arange(GENES) == 0)


def write_group(file: h5py.File, name: str, matrix: object, kind: str) -> None:
    group = file.create_group(name)
    group.attrs.update({"encoding-type": f"{kind}_matrix", "encoding-version": "0.1.0", "shape": matrix.shape})
    for part in ("data", "indices", "indptr"):
        group[part] = getattr(matrix, part)


def write_h5ad(path: Path, kind: str = "csr", place: str = "X") -> Path:
    with h5py.File(path, "w") as file:
        if place != "X":
            file["X"] = np.log1p(COUNTS)
        if kind == "dense":
            file[place] = COUNTS.astype(np.float32)
        else:
            write_group(file, place, getattr(sparse, f"{kind}_matrix")(COUNTS.astype(np.float32)), kind)
        file["obs/tech"] = np.array(["a", "b"], dtype="S1")[np.arange(CELLS) % 9 // 8]
        file["obs/batch/categories"] = np.array(["x", "y"], dtype="S1")
        file["obs/batch/codes"] = np.arange(CELLS) % 9 // 8
    return path


def write_10x(path: Path) -> Path:
    kinds = [b"Gene Expression"] * GENES + [b"Antibody Capture"]
    columns = sparse.csc_matrix(np.vstack([COUNTS.T, np.full((1, CELLS), 99)]))
    with h5py.File(path, "w") as file:
        for part in ("data", "indices", "indptr", "shape"):
            file[f"matrix/{part}"] = getattr(columns, part)
        file["matrix/features/feature_type"] = kinds
    return path


def write_mtx(folder: Path, barcodes: int = CELLS) -> Path:
    folder.mkdir()
    entries = "\n".join(f"{g + 1} {c + 1} {COUNTS[c, g]}" for c, g in zip(*np.nonzero(COUNTS), strict=True))
    head = f"%%MatrixMarket matrix coordinate integer general\n{GENES} {CELLS} {np.count_nonzero(COUNTS)}\n"
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress((head + entries + "\n").encode()))
    (folder / "features.tsv.gz").write_bytes(gzip.compress(b"gene\n" * GENES))
    (folder / "barcodes.tsv").write_bytes(b"cell\n" * barcodes)
    return folder


def write_csv(path: Path) -> Path:
    rows = [",".join(["", *(f"g{i}" for i in range(GENES))])]
    rows += [",".join([f"c{i}", *map(str, row)]) for i, row in enumerate(COUNTS)]
    text = ("\n".join(rows) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def write_npz(path: Path) -> Path:
    np.savez(path, counts=COUNTS)
    return path


FORMS: dict[str, Callable[[Path], Path]] = {
    "csr.h5ad": write_h5ad,
    "csc.h5ad": lambda path: write_h5ad(path, "csc"),
    "dense.h5ad": lambda path: write_h5ad(path, "dense"),
    "layer.h5ad": lambda path: write_h5ad(path, "csr", "layers/counts"),
    "raw.h5ad": lambda path: write_h5ad(path, "csc", "raw/X"),
    "tenx.h5": write_10x,
    "folder": write_mtx,
    "table.csv": write_csv,
    "table.csv.gz": write_csv,
    "mine.npz": write_npz,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_data_set(name: str, tmp_path: Path) -> None:
    meta = data.prepare(str(FORMS[name](tmp_path / name)), tmp_path / "out")
    found = data.load(tmp_path / "out")
    assert np.array_equal(found.counts, COUNTS)
    assert meta["name"] == found.name == "own-ac9d4cc58d83"
    assert meta["notes"] == []
    assert name not in (tmp_path / "out" / "meta.json").read_text()


def test_an_obs_column_chooses_the_cells(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "mine.h5ad")
    for column, value in (("tech", "a"), ("batch", "x")):
        assert readers.read_counts(path, (column, value)).shape == (80, GENES)
    with pytest.raises(DataError, match=r"no cell has tech = 'z'; there are (a, b|b, a) \[bad_labels\]"):
        readers.read_counts(path, ("tech", "z"))
    with pytest.raises(DataError, match=r"obs has no column 'donor'; it has batch, tech"):
        readers.read_counts(path, ("donor", "z"))


def spoil(row: int, value: float) -> np.ndarray:
    spoilt = COUNTS.astype(float)
    spoilt[row, 3] = value
    return spoilt


@pytest.mark.parametrize(
    ("values", "reason", "words"),
    [
        (np.log1p(COUNTS), "not_counts", "log-normalised values .* give raw counts"),
        (COUNTS * 37.5, "not_counts", "holds normalised values"),
        (spoil(5, -1.0), "negative", "raw counts"),
        (spoil(5, np.nan), "not_finite", "NaN"),
        (spoil(5, np.inf), "not_finite", "infinite"),
        (spoil(5, 3e9), "too_large", r"3e\+09"),
        (np.full((90, 30), "a"), "not_numbers", "no finite numbers"),
        (np.ones(90), "bad_shape", r"\(90,\)"),
        (COUNTS[:60], "too_few_cells", "at least 70 cells x 20 genes, found 60 x 30"),
        (COUNTS[:, :15], "too_few_genes", "found 90 x 15"),
        (np.zeros((90, 30)), "too_few_cells", "found 0 x 0"),
    ],
)
def test_what_are_no_counts_is_refused(values: np.ndarray, reason: str, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", counts=values)
    with pytest.raises(DataError, match=words) as caught:
        data.prepare(str(tmp_path / "mine.npz"), tmp_path / "out")
    assert caught.value.reason == reason
    assert str(caught.value).startswith(str(tmp_path / "mine.npz"))
    assert not (tmp_path / "out").exists()


FILES = {
    "none.npz": (None, "missing"),
    "empty.h5ad": (b"", "empty"),
    "broken.h5ad": (b"no", "unreadable"),
    "broken.h5": (b"no", "unreadable"),
    "broken.npz": (b"PK", "unreadable"),
    "broken.csv.gz": (b"\x1f\x8b", "unreadable"),
    "cut.csv.gz": (gzip.compress(b"a,b\n" * 999)[:40], "unreadable"),
    "head.csv": (b",g1,g2\n", "empty"),
    "words.csv": (b",g1,g2\nc1,1,two\n", "not_numbers"),
    "twice.csv": (b",g1,g2\nc1,1,2\nc1,1,2\n", "bad_labels"),
    "gap.csv": (b",g1,g2\nc1,1,\n", "not_finite"),
    "counts.xlsx": (b"?", "unknown_format"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_used_say_why(name: str, tmp_path: Path) -> None:
    content, reason = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        readers.read_counts(tmp_path / name)
    assert (caught.value.reason, f"[{reason}]" in str(caught.value)) == (reason, True)


def test_containers_without_counts_say_what_they_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", X=COUNTS)
    np.savez(tmp_path / "objects.npz", counts=np.array([{}], dtype=object))
    with h5py.File(tmp_path / "bare.h5ad", "w") as file, h5py.File(tmp_path / "bare.h5", "w") as tenx:
        file["obs/tech"] = tenx["nothing"] = np.zeros(2)
    mislabelled = write_mtx(tmp_path / "short", barcodes=CELLS - 1)
    for path, words in (
        (tmp_path / "other.npz", r"it holds X \[no_counts\]"),
        (tmp_path / "objects.npz", r"\[unreadable\]"),
        (tmp_path / "bare.h5ad", r"none of layers/counts, raw/X, X \[no_counts\]"),
        (tmp_path / "bare.h5", r"no 10x matrix .*\[no_counts\]"),
        (mislabelled, r"lists 89 \[bad_labels\]"),
    ):
        with pytest.raises(DataError, match=words):
            readers.read_counts(path)


def test_filters_and_caps_are_applied_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "MAX_CELLS", 80)
    monkeypatch.setattr(own, "MAX_GENES", 25)
    values = np.hstack([COUNTS, np.zeros((CELLS, 2), dtype=int)])
    values[7] = np.arange(GENES + 2) == 4
    np.savez(tmp_path / "mine.npz", counts=values)
    metas = [data.prepare(str(tmp_path / "mine.npz"), tmp_path / out) for out in ("a", "b")]
    counts = data.load(tmp_path / "a").counts
    assert counts.shape == (80, 25)
    assert metas[0] == metas[1]
    assert metas[0]["filters"] == {
        "cells_read": 90,
        "genes_read": 32,
        "cells_below_two_molecules": 1,
        "genes_without_molecule": 2,
        "cells_over_the_cap": 9,
        "genes_over_the_cap": 5,
    }
    assert any("9 of the cells: cells were left out: a data set holds" in note for note in metas[0]["notes"])
    # The columns that stay are those with the most molecules, in their old order.
    assert all(any(np.isin(row, whole).all() for whole in COUNTS) for row in counts[:3])
    assert counts.sum(axis=0).min() > 0


def test_a_path_in_a_spec_is_known_by_its_content(tmp_path: Path) -> None:
    from flows.prepare import data_notes, prepare_data

    task = load_task(ROOT, "denoise")
    project = Project(tmp_path)
    first = prepare_data(project, task, str(write_h5ad(tmp_path / "mine.h5ad")))
    assert first.parent == tmp_path / "data" / "denoise"
    assert first.name.startswith("own-")
    assert data_notes(first) == []
    (tmp_path / "mine.h5ad").rename(tmp_path / "moved.h5ad")
    assert prepare_data(project, task, "moved.h5ad") == first
    other = prepare_data(project, task, str(write_csv(tmp_path / "table.csv")))
    digests = {task.verifier("sia", folder).data_digest for folder in (first, other)}
    assert other != first
    assert len(digests) == 1
    write_h5ad(tmp_path / "moved.h5ad", "csr", "layers/counts")
    assert task.data_dir(tmp_path, "moved.h5ad") != first


def test_a_programs_verdict_can_be_had_on_own_data(tmp_path: Path) -> None:
    data.prepare(str(write_mtx(tmp_path / "folder")), tmp_path / "out")
    verifier = load_task(ROOT, "denoise").verifier("guarded", tmp_path / "out")
    (instance,) = verifier.instances("select", 1, 0)
    assert instance.id.startswith("own-")
    assert verifier.baselines(instance)["identity"].reward == 0.0
    assert set(verifier.baselines(instance)["magic"].metrics) >= {"mse_norm", "poisson_norm"}
