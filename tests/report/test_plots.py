"""Pictures: read back as pixels, and asked what they show."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from sia_flow.lineage.goodhart import Closing
from sia_flow.lineage.records import Generation
from sia_flow.report.canvas import COLOURS
from sia_flow.report.plots import (
    Line,
    _incumbents,
    goodhart_over_generations,
    score_over_generations,
    score_over_spend,
    training_curves,
)
from tests.report.conftest import make_score

Make = Callable[..., Generation]


@pytest.fixture
def lines(generation: Make) -> list[Line]:
    harness = tuple(generation(i, 0.05 + 0.01 * i, accepted=i != 2) for i in range(4))
    weights = tuple(generation(i, 0.05 + 0.03 * i, weights=i > 1) for i in range(4))
    return [Line("SIA-H", harness), Line("SIA-W+H", weights)]


def painted(path: Path, colour: str) -> int:
    pixels = imread(path)[..., :3]
    return int((np.abs(pixels - np.array(to_rgb(colour))).max(axis=2) < 0.02).sum())


def test_each_arm_and_baseline_is_drawn(lines: list[Line], tmp_path: Path) -> None:
    both = score_over_generations(lines, tmp_path / "both.png", {"MAGIC": 0.08})
    assert imread(both).shape[:2] == (750, 1350)
    assert painted(both, COLOURS[0]) > 500
    assert painted(both, COLOURS[1]) > 500
    one = score_over_generations(lines[:1], tmp_path / "one.png")
    assert painted(one, COLOURS[1]) == 0
    assert painted(both, "#555555") > painted(one, "#555555") + 300


def test_equal_records_give_equal_bytes(lines: list[Line], tmp_path: Path) -> None:
    first = score_over_generations(lines, tmp_path / "a.png").read_bytes()
    assert score_over_generations(lines, tmp_path / "b.png").read_bytes() == first


def test_what_was_not_kept_is_hollow(generation: Make, tmp_path: Path) -> None:
    counts = []
    for accepted in (True, False):
        line = Line("SIA-H", (generation(0, 0.1), generation(1, 0.1, accepted=accepted)))
        counts.append(painted(score_over_generations([line], tmp_path / f"{accepted}.png"), COLOURS[0]))
    assert counts[0] > counts[1] + 50


def test_seeds_of_an_arm_become_one_line(lines: list[Line], generation: Make, tmp_path: Path) -> None:
    second = Line("SIA-H", tuple(generation(i, 0.06) for i in range(2)))
    path = score_over_generations([lines[0], second], tmp_path / "seeds.png")
    assert painted(path, COLOURS[1]) == 0


def test_the_incumbent_keeps_its_score_when_nothing_is_accepted(lines: list[Line]) -> None:
    kept = _incumbents(lines[0].generations)
    assert [generation.index for generation in kept] == [0, 1, 1, 3]
    assert [generation.select.mean for generation in kept] == pytest.approx([0.06, 0.07, 0.07, 0.09])


def test_spend_and_training_are_drawn(lines: list[Line], tmp_path: Path) -> None:
    assert painted(score_over_spend(lines, tmp_path / "spend.png", {"MAGIC": 0.08}), COLOURS[1]) > 500
    assert painted(training_curves(lines[1].generations[2], tmp_path / "training.png"), COLOURS[0]) > 500


def test_a_generation_without_training_has_no_curves(lines: list[Line], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training metrics"):
        training_curves(lines[0].generations[1], tmp_path / "none.png")


def test_importing_reports_does_not_import_matplotlib() -> None:
    code = "import sys, sia_flow.report.plots, sia_flow.report.markdown; print('matplotlib' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_the_goodhart_gap_is_drawn_with_its_alarms_and_its_end(generation: Make, tmp_path: Path) -> None:
    def line(last: float) -> Line:
        trains = (0.05, 0.05, last)
        kept = [generation(i, 0.05, train=make_score("train", train)) for i, train in enumerate(trains)]
        return Line("SIA-H", tuple(kept))

    calm = goodhart_over_generations([line(0.06)], tmp_path / "calm.png")
    alarmed = goodhart_over_generations([line(0.5)], tmp_path / "alarmed.png")
    assert 300 < painted(calm, COLOURS[0]) < painted(alarmed, COLOURS[0])
    ends = [
        goodhart_over_generations([line(0.5)], tmp_path / f"{arm}.png", {arm: Closing(0.2, 0.01, ())}).read_bytes()
        for arm in ("SIA-H", "another")
    ]
    assert ends[0] != ends[1] == alarmed.read_bytes()
