"""Score against spend: what an arm took, and what has no price."""

from __future__ import annotations

from collections.abc import Callable

from sia_flow.lineage.records import Spend
from sia_flow.lineage.results import ArmResult
from sia_flow.report.markdown import comparison_report
from sia_flow.report.spending import spending_table, spending_words

Make = Callable[..., ArmResult]


def dear(result: Make, arm: str, seed: int, tokens: int, usd: float = 0.0) -> ArmResult:
    spend = Spend(rollouts=tokens // 10, prompt_tokens=tokens // 2, completion_tokens=tokens // 2, usd=usd)
    return result(arm, seed, 0.2, spend=spend)


def test_a_row_an_arm_means_over_seeds_and_the_share_of_the_dearest(result: Make) -> None:
    results = [dear(result, "a", 0, 1000), dear(result, "a", 1, 3000), dear(result, "b", 0, 8000, usd=1.5)]
    first, second = spending_table(results)
    assert (first["arm"], first["tokens"], first["rollouts"], first["of the dearest"]) == ("a", "2,000", "200", "25%")
    assert (second["of the dearest"], second["agents' dollars"]) == ("100%", "1.50")
    assert first["sealed"] == "0.2000 ± 0.0000"
    (line, unpriced) = spending_words(results)
    assert "4.0 times the tokens of the cheapest (a): not equal spend" in line
    assert "no price" in unpriced


def test_a_price_adds_the_policy_to_the_dollars_and_equal_arms_need_no_warning(result: Make) -> None:
    results = [dear(result, "a", 0, 1000), dear(result, "b", 0, 1050, usd=1.5)]

    def price(spend: Spend) -> float:
        return spend.usd + spend.completion_tokens / 100

    assert [row["dollars"] for row in spending_table(results, price)] == ["5.00", "6.75"]
    assert spending_words(results, price) == []
    assert spending_table([]) == spending_words([]) == []


def test_the_comparison_that_is_written_has_the_spend_beside_the_score(result: Make) -> None:
    text = comparison_report([dear(result, "SIA-H", 0, 1000), dear(result, "SIA-W+H", 0, 4000)])
    (row,) = [line for line in text.splitlines() if line.startswith("| SIA-H | ") and "25%" in line]
    assert "1,000" in row
