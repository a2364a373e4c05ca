"""Shapley values of the two levers: efficiency, symmetry, and the four cells worked by hand."""

from collections.abc import Callable

import pytest

from sia_flow.lineage.records import Score
from sia_flow.lineage.results import ArmResult, Cell
from sia_flow.report.attribution import attribution

Make = Callable[..., ArmResult]


def cells(score: Callable[..., Score], base: float, harness: float, weights: float, both: float) -> tuple[Cell, ...]:
    places = (("first", "base", base), ("best", "base", harness), ("first", "best", weights), ("best", "best", both))
    return tuple(Cell(scaffold=s, weights=w, score=score("select", mean)) for s, w, mean in places)


def test_values_worked_by_hand(result: Make, score: Callable[..., Score]) -> None:
    results = [result("SIA-W+H", 0, 0.2, factorial=cells(score, 0.10, 0.14, 0.16, 0.30))]
    found = {share.part: share for share in attribution(results)}
    # Scaffold: (0.04 + 0.14) / 2; weights: (0.06 + 0.16) / 2; interaction: 0.30 - 0.14 - 0.16 + 0.10.
    assert found["scaffold"].value == pytest.approx(0.09)
    assert found["weights"].value == pytest.approx(0.11)
    assert found["interaction"].value == pytest.approx(0.10)
    assert all(share.low < share.value < share.high for share in found.values())
    assert found["scaffold"].method == "bootstrap over rollouts"


def test_the_two_levers_share_out_the_whole_gain_over_seeds(result: Make, score: Callable[..., Score]) -> None:
    grids = [(0.10, 0.15, 0.12, 0.20), (0.08, 0.10, 0.19, 0.22), (0.11, 0.11, 0.16, 0.21)]
    results = [result("SIA-W+H", s, 0.2, factorial=cells(score, *grid)) for s, grid in enumerate(grids)]
    found = {share.part: share for share in attribution(results)}
    whole = sum(grid[3] - grid[0] for grid in grids) / 3
    assert found["scaffold"].value + found["weights"].value == pytest.approx(whole)
    assert {share.method for share in found.values()} == {"t over seeds"}
    assert found["weights"].seeds == 3


def test_levers_that_do_the_same_share_equally(result: Make, score: Callable[..., Score]) -> None:
    results = [result("SIA-W+H", 0, 0.2, factorial=cells(score, 0.1, 0.2, 0.2, 0.25))]
    scaffold, weights, interaction = attribution(results)
    assert scaffold.value == pytest.approx(weights.value)
    assert interaction.value == pytest.approx(-0.05)


def test_nothing_is_attributed_without_all_four_cells(result: Make, score: Callable[..., Score]) -> None:
    assert attribution([result("SIA-W+H", 0, 0.2)]) == ()
    assert attribution([result("SIA-H", 0, 0.2, factorial=cells(score, 0.1, 0.2, 0.2, 0.25))]) == ()
