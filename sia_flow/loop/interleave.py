"""Levers interleaved: every so many harness pulls, the weights are trained through the edit in the same generation.

Invariant: only a decision for the harness is widened, and the record says by what; all else is as the agent decided.
"""

from __future__ import annotations

from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import statistics_of
from sia_flow.agents.weights import weight_plan
from sia_flow.lineage.records import Decision

WHY = "By search.interleave, the weights are trained through it in the same generation."


def interleaved(every: int | None, evidence: Evidence, decision: Decision) -> Decision:
    """Return a decision, widened to both levers where it is the `every`-th harness pull since the weights changed.

    The plan of the update is the table's. Where the action was drawn, the draw is dropped: it is not what was done.
    """
    if every is None or decision.lever != "harness" or "weights" not in evidence.levers:
        return decision
    if _harness_pulls(evidence) + 1 < every:
        return decision
    plan = weight_plan(evidence, statistics_of(evidence.trajectories, evidence.verdicts))
    wider = {"lever": "both", "weights": plan, "reason": f"{decision.reason} {WHY}", "draw": None}
    return decision.model_copy(update=wider)


def _harness_pulls(evidence: Evidence) -> int:
    """Return how many harness pulls there were, accepted or not, since the last weight update that was tried."""
    count = 0
    for generation in reversed(evidence.history):
        if generation.decision is None or generation.decision.lever != "harness":
            break
        count += 1
    return count
