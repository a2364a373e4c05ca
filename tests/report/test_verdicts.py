"""What `compare` says of the arms in sentences."""

from collections.abc import Callable

from sia_flow.cli.verdicts import verdicts
from sia_flow.lineage.results import ArmResult

Make = Callable[..., ArmResult]


def test_three_arms_are_compared_two_by_two_with_the_correction_named(result: Make) -> None:
    results = [result(arm, 0, mean) for arm, mean in (("SIA-H", 0.2), ("SIA-W+H", 0.3), ("SIA-W", 0.25))]
    said = verdicts(results)
    pairs = [line for line in said if "Holm over 3 comparisons" in line]
    assert len(pairs) == 3
    assert any(line.startswith("SIA-W is worse than SIA-W+H: -0.0500 [") for line in pairs)


def test_two_arms_have_one_comparison_and_no_correction(result: Make) -> None:
    said = verdicts([result("SIA-H", 0, 0.2), result("SIA-W+H", 0, 0.3)])
    assert sum("SIA-W+H is better than SIA-H" in line for line in said) == 2
    assert not [line for line in said if "Holm" in line]


def test_what_each_lever_is_worth_is_said_where_all_four_cells_were_measured(result: Make, score) -> None:
    from sia_flow.lineage.results import Cell

    grid = (("first", "base", 0.1), ("best", "base", 0.14), ("first", "best", 0.16), ("best", "best", 0.3))
    cells = tuple(Cell(scaffold=s, weights=w, score=score("select", mean)) for s, w, mean in grid)
    said = verdicts([result("SIA-W+H", 0, 0.3, factorial=cells)])
    (line,) = [line for line in said if "Shapley" in line]
    assert "scaffold +0.0900 [" in line
    assert "weights +0.1100 [" in line
    assert "interaction +0.1000 [" in line
