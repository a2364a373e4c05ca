"""What a task of an agent may cost before it is asked: a low and a high figure for the plan.

The low one is a single call with half of the evidence; the high one uses every turn, each reading all that came before
and nothing from a cache. Real bills lie between.
"""

from __future__ import annotations

from sia_flow.providers.prices import Rate

STATIC = 4_000
"""Tokens of the static words, the task and the tools."""
SHORT, LONG = 800, 2_500
"""Tokens of a terse answer, and of one with thinking or an edit."""
RESULT = 2_000
"""Tokens of a tool's result."""


def task_cost(rate: Rate, evidence: int, turns: int) -> tuple[float, float]:
    """Return the dollars of one task, low and high."""
    low = rate.bound(STATIC + evidence // 2, SHORT)
    growth = LONG + RESULT
    prompts = turns * (STATIC + evidence) + growth * turns * (turns - 1) // 2
    return low, rate.bound(prompts, turns * LONG)
