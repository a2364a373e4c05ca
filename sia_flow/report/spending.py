"""Score against spend: what each arm took for what it reached, so that nobody compares a dear arm with a cheap one.

Invariant: figures are means over an arm's seeds; what has no price is said to have none and is not shown as free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from sia_flow.lineage.records import Spend
from sia_flow.lineage.results import ArmResult
from sia_flow.report.table import DASH, combine

Price = Callable[[Spend], float]


def spending_table(results: Sequence[ArmResult], price: Price | None = None) -> list[dict[str, str]]:
    """Return a row an arm, the same columns in each; `price` tells the dollars of agents and policy together.

    Without it the dollars are those of the agents alone.
    """
    arms = {result.arm: [r for r in results if r.arm == result.arm] for result in results}
    dearest = max((_tokens(found) for found in arms.values()), default=0.0)
    return [_row(name, found, dearest, price) for name, found in arms.items()]


def spending_words(results: Sequence[ArmResult], price: Price | None = None) -> list[str]:
    """Return what the table does not say by itself: whether the arms spent the same, and what has no price."""
    arms = {result.arm for result in results}
    tokens = {arm: _tokens([r for r in results if r.arm == arm]) for arm in arms}
    low, high = min(tokens.values(), default=0.0), max(tokens.values(), default=0.0)
    said = []
    if low and high / low > 1.1:
        cheap = min(tokens, key=lambda arm: (tokens[arm], arm))
        said.append(
            f"The dearest arm took {high / low:.1f} times the tokens of the cheapest ({cheap}): not equal spend."
        )
    if results and price is None:
        said.append("Dollars are the agents' alone: the policy's tokens have no price (budget.prices).")
    return said


def _row(name: str, results: Sequence[ArmResult], dearest: float, price: Price | None) -> dict[str, str]:
    tokens = _tokens(results)
    usd = fmean(price(r.spend) if price else r.spend.usd for r in results)
    best = [r.best.sealed.mean for r in results if r.best]
    return {
        "arm": name,
        "sealed": str(combine([r.sealed for r in results])),
        "best program, sealed": f"{fmean(best):.4f}" if best else DASH,
        "generations": f"{fmean(len(r.generations) for r in results):.1f}",
        "rollouts": f"{fmean(r.spend.rollouts for r in results):,.0f}",
        "tokens": f"{tokens:,.0f}",
        "of the dearest": f"{tokens / dearest:.0%}" if dearest else DASH,
        "programs scored": f"{fmean(r.spend.verifications for r in results):,.0f}",
        "dollars" if price else "agents' dollars": f"{usd:,.2f}",
    }


def _tokens(results: Sequence[ArmResult]) -> float:
    return fmean(r.spend.prompt_tokens + r.spend.completion_tokens for r in results) if results else 0.0
