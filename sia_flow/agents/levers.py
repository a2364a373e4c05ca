"""Which lever to pull: the harness until it stalls, then the weights, then both in turn.

Invariant: a lever that the arm may not pull is never chosen; the choice rests on the records alone and not on
the budget left.
"""

from __future__ import annotations

from dataclasses import dataclass

from sia_flow.agents.decision import Evidence
from sia_flow.agents.harness import DEAR, HarnessPull
from sia_flow.agents.plateau import Plateau, last_phase, plateau, pulls_of, unaccepted
from sia_flow.lineage.records import Pull, Spend

PHASE = 1
"""Harness pulls between two weight updates, unless an edit makes training dear."""
CHEAP_UPDATES = 2
"""Weight updates before edits that multiply completions are admitted: every training iteration would pay for them."""
PATIENCE = 3
"""Refused generations in a row after which an arm with nothing untried stops."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A lever with the reason."""

    lever: Pull
    why: str


def weights_state(evidence: Evidence) -> Plateau:
    """Return the plateau test of the arm's weight updates; a single one is no stall: its rate may be off."""
    return plateau(pulls_of(evidence.history, "weights", "both"), least=2, noise=evidence.noise)


def harness_state(evidence: Evidence) -> Plateau:
    """Return the plateau test of the harness pulls since the last weight update."""
    return plateau(last_phase(evidence.history, "harness"), patience=PHASE, noise=evidence.noise)


def dear_edits_admitted(evidence: Evidence) -> bool:
    """Whether edits that multiply completions may be offered: there is no weight to train, or training had its turn."""
    updates = pulls_of(evidence.history, "weights", "both")
    return "weights" not in evidence.levers or len(updates) >= CHEAP_UPDATES


def rollout_cost(evidence: Evidence) -> float:
    """Return the tokens that a rollout of the incumbent samples, as a multiple of the first generation's; 1 if unknown.

    Every iteration of a weight update would pay it.
    """
    first = evidence.history[0].spend if evidence.history else Spend()
    tokens = sum(trajectory.spend.completion_tokens for trajectory in evidence.trajectories)
    if not (first.completion_tokens and first.rollouts and evidence.trajectories):
        return 1.0
    return (tokens / len(evidence.trajectories)) / (first.completion_tokens / first.rollouts)


def choose_lever(evidence: Evidence, harness: HarnessPull | None) -> Choice:
    """Return the lever to pull now; `harness` is what a harness pull would be, None where no edit applies."""
    refused = unaccepted(evidence.history)
    idle = harness is None or harness.exhausted
    if "harness" not in evidence.levers and "weights" not in evidence.levers:
        return Choice("stop", "the arm has no lever to pull")
    spent = "weights" not in evidence.levers or weights_state(evidence).state == "stalled"
    if idle and spent and refused >= PATIENCE:
        return Choice("stop", f"{refused} generations in a row were refused and nothing is untried")
    if "weights" not in evidence.levers:
        return _harness_only(harness)
    if "harness" not in evidence.levers:
        return Choice("weights", f"the arm has one lever; the weights {weights_state(evidence).words()}")
    if harness is None:
        return Choice("weights", "no edit of the harness applies")
    return _both(evidence, harness)


def _harness_only(harness: HarnessPull | None) -> Choice:
    if harness is None:
        return Choice("stop", "no edit of the harness applies")
    return Choice("harness", harness.why)


def _both(evidence: Evidence, harness: HarnessPull) -> Choice:
    last = evidence.history[-1] if evidence.history else None
    phase = last_phase(evidence.history, "harness")
    state, weights = harness_state(evidence), weights_state(evidence)
    if last is not None and last.decision is not None and last.decision.lever in {"weights", "both"}:
        return _after_weights(harness, weights, accepted=last.accepted)
    if weights.state == "stalled" and not harness.exhausted:
        return Choice("harness", f"the weights {weights.words()}; {harness.why}")
    cost = rollout_cost(evidence)
    if cost >= DEAR and not harness.exhausted:
        return Choice("harness", f"training waits, for a rollout samples {cost:.1f} times what it did; {harness.why}")
    if state.state == "stalled":
        return Choice("weights", f"the harness {state.words()}")
    if len(phase) >= PHASE:
        pulls = f"{len(phase)} harness pull{'s' if len(phase) > 1 else ''}"
        return Choice("weights", f"the harness {state.words()}; after {pulls} it is the weights' turn")
    return Choice("harness", f"the harness {state.words()}; {harness.why}")


def _after_weights(harness: HarnessPull, weights: Plateau, *, accepted: bool) -> Choice:
    if accepted:
        return Choice("harness", f"the new policy may shift the harness's optimum; {harness.why}")
    if not harness.exhausted:
        return Choice("harness", f"the weight update was refused; {harness.why}")
    return Choice("weights", f"no edit is untried; the weights {weights.words()}")
