"""What the agents' models may cost an arm that is not done, low and high, inside its caps.

Invariant: no key is read and no call is made; the high figure is infinite where a price is not known and need not be.
"""

from __future__ import annotations

import math

from sia_flow.loop.arm import ArmState
from sia_flow.loop.books import EVIDENCE, TURNS, admit_models, journal_of, models_of
from sia_flow.loop.lab import Lab
from sia_flow.providers.cost import task_cost
from sia_flow.providers.journal import totals
from sia_flow.providers.prices import rate_of


def agents_bill(lab: Lab, state: ArmState) -> tuple[float, float]:
    """Return the dollars that the agents may still cost an arm, low and high.

    Raises SpecError for a model that lacks a price, or a budget.
    """
    admit_models(lab.experiment)
    tasks = {"meta": int(not state.history), "feedback": 0}
    if state.arm.control == "unaided":
        tasks["feedback"] = int(len(state.history) < 2)  # the same model
    if state.arm.control is None:
        tasks["feedback"] = max(0, lab.spec.budget.generations + 1 - max(1, len(state.history)))
    low = high = 0.0
    for role, section, choices in models_of(lab.experiment):
        costs = []
        for choice in choices:
            rate = rate_of(choice.settings.model, lab.spec.budget.prices)
            evidence = section.evidence or EVIDENCE
            found = task_cost(rate, evidence, section.turns or TURNS) if rate else (0.0, math.inf)
            costs.append(found)
        # No task, no cost, whatever the price: infinity times nothing is no number.
        if tasks[role]:
            low += tasks[role] * min(cost[0] for cost in costs)
            # How many generations it takes to spend as much as another arm, nobody knows.
            open_end = role == "feedback" and state.arm.spend == "dearest" and any(cost[1] for cost in costs)
            high += math.inf if open_end else tasks[role] * max(cost[1] for cost in costs)
    left = _left(lab, state)
    return min(low, left), min(high, left)


def _left(lab: Lab, state: ArmState) -> float:
    """Return what the arm's cap leaves; infinity where it has none."""
    cap = lab.spec.budget.usd
    if not isinstance(cap, float):
        return math.inf
    entries = journal_of(lab.store.root.parent, lab.experiment).entries()
    own = (e for e in entries if e.account.seed == state.seed and e.account.arm in (state.arm.name, None))
    return max(0.0, cap - totals(own)[0])
