"""Figures of others beside ours: shown where an experiment asks for them, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sia_flow.errors import SpecError
from sia_flow.lineage.results import ArmResult
from sia_flow.report.markdown import comparison_report
from sia_flow.report.published import TaskFigures, beside, caveats, published_for, read_published
from sia_flow.report.table import final_table
from sia_flow.spec.load import load_experiments

Make = Callable[..., ArmResult]
ROOT = Path(__file__).resolve().parents[2]
FILE = (
    "title: Someone\ntasks:\n  denoise: {metric: m, figures: {SIA-H: 0.5}, others: {A B: 2}, differs: [other data]}\n"
)


def test_the_column_stands_beside_our_rows_and_others_get_rows_of_their_own(result: Make) -> None:
    theirs = TaskFigures(metric="m", figures={"SIA-H": 0.5, "initial": 0.1}, others={"prior best": 1.25})
    rows = beside(final_table([result("SIA-H", 0, 0.2), result("best-of-n", 0, 0.1, control="best-of-n")]), theirs)
    found = {row["agent"]: row["paper"] for row in rows}
    assert found == {
        "initial": "0.100",
        "SIA-H": "0.500",
        "best-of-n (control)": "-",
        "magic (baseline)": "-",
        "prior best (paper)": "1.250",
    }
    assert len({tuple(row) for row in rows}) == 1
    assert rows[-1]["sealed"] == "-"
    assert beside([], theirs) == []


def test_an_experiment_asks_by_a_label_that_names_a_file_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "figures.yaml").write_text(FILE)
    asked = {"labels": {"published": "figures.yaml"}}
    found = published_for(tmp_path, asked, "denoise")
    assert found is not None
    assert found[1].others == {"A B": 2.0}
    assert caveats(*found) == ["paper: Someone, m. Not the same experiment:", "  - other data"]
    assert published_for(tmp_path, asked, "trimul") is None
    assert published_for(tmp_path, {"labels": {}}, "denoise") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: 3\ntasks: {}\n", "title"),
        ("title: a\n", "tasks"),
        ("title: a\ntasks: {t: {metric: m, figures: {a: x}}}", "tasks.t.figures.a"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "figures.yaml").write_text(text)
    with pytest.raises(SpecError, match=words):
        read_published(tmp_path / "figures.yaml")
    with pytest.raises(SpecError, match="cannot read"):
        read_published(tmp_path / "none.yaml")


def test_the_paper_in_one_spec_names_three_tasks_that_have_published_figures() -> None:
    found = load_experiments(ROOT / "specs" / "paper.yaml")
    assert [e.metadata.name for e in found] == ["paper-denoise", "paper-lawbench", "paper-trimul"]
    alone = {e.spec.task.name: load_experiments(ROOT / "specs" / f"{e.spec.task.name}.yaml")[0].spec for e in found}
    for one in found:
        theirs = published_for(ROOT, one.metadata.model_dump(), one.spec.task.name)
        assert theirs is not None
        assert {"initial", "SIA-H", "SIA-W+H"} == set(theirs[1].figures)
        assert len(theirs[1].differs) >= 3
        assert {"SIA-H", "SIA-W", "SIA-W+H", "SIA-H-equal", "no-feedback-equal"} <= {arm.name for arm in one.spec.arms}
        # What is not said in the paper's spec is the task's own.
        task = alone[one.spec.task.name]
        assert (one.spec.training, one.spec.policy, one.spec.rollouts) == (task.training, task.policy, task.rollouts)
    figures = {e.spec.task.name: published_for(ROOT, e.metadata.model_dump(), e.spec.task.name) for e in found}
    assert figures["lawbench"]
    assert figures["lawbench"][1].figures["SIA-W+H"] == 0.701


def test_the_comparison_has_the_column_with_its_caveats(result: Make) -> None:
    theirs = TaskFigures(metric="m", figures={"SIA-H": 0.5}, others={"A <B>": 2.0}, differs=("on *other* data",))
    text = comparison_report([result("SIA-H", 0, 0.2)], cited=("Someone", theirs))
    assert "| paper |" in text.splitlines()[0]
    assert next(line for line in text.splitlines() if line.startswith("| SIA-H")).endswith("| 0.500 |")
    assert "paper: Someone, m. Not the same experiment:\n- on" in text
    assert "paper" not in comparison_report([result("SIA-H", 0, 0.2)])
