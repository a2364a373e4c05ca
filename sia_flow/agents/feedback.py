"""The builtin Feedback-Agent: statistics in, one decision with its reason and forecast out.

Invariant: equal evidence gives an equal decision; nothing is drawn but from the evidence's seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sia_flow.agents.catalogue import CATALOGUE, Structural
from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import Statistics, statistics_of
from sia_flow.agents.forecast import calibrated, weights_gain
from sia_flow.agents.harness import HarnessPull, Offers, harness_offers, preferred
from sia_flow.agents.levers import Choice, choose_lever, dear_edits_admitted, harness_state, weights_state
from sia_flow.agents.plateau import pulls_of, unaccepted
from sia_flow.agents.report import improvement_report
from sia_flow.agents.weights import weight_plan
from sia_flow.lineage.records import Decision, WeightPlan


class BuiltinFeedbackAgent:
    """Decides by the plateau test, the forecasts and the paper's table of algorithms."""

    def __init__(self, catalogue: Sequence[Structural] = CATALOGUE) -> None:
        self.catalogue = tuple(catalogue)

    def decide(self, evidence: Evidence) -> Decision:
        """Return the decision, the same for the same evidence.

        Raises ScaffoldError for an incumbent whose block of constants is malformed.
        """
        rewards = statistics_of(evidence.trajectories, evidence.verdicts)
        pull = preferred(evidence, self.offers(evidence, rewards))
        choice = choose_lever(evidence, pull)
        plan = weight_plan(evidence, rewards) if choice.lever == "weights" else None
        return decision_on(evidence, rewards, choice, pull, plan)

    def offers(self, evidence: Evidence, rewards: Statistics) -> Offers:
        """Return what pulls of the harness would be now; none for an arm that may not pull it."""
        if "harness" not in evidence.levers:
            return Offers()
        dear = dear_edits_admitted(evidence)
        return harness_offers(evidence, rewards, self.catalogue, dear=dear, noise=select_noise(evidence))


def select_noise(evidence: Evidence) -> float:
    """Return a select gain's standard error: the last measured one, else sqrt(2) of the incumbent's."""
    measured = [generation.gain_se for generation in evidence.history if generation.gain_se > 0]
    estimate = measured[-1] if measured else math.sqrt(2) * evidence.incumbent.select.se
    return max(estimate, evidence.noise)


def decision_on(
    evidence: Evidence, rewards: Statistics, choice: Choice, pull: HarnessPull | None, plan: WeightPlan | None
) -> Decision:
    """Return the decision that a choice of lever comes to, with its forecast, features and report.

    `pull` is what a pull of the harness would be, `plan` the update where the weights are chosen.
    """
    taken = pull if choice.lever == "harness" else None
    forecast = _forecast(evidence, rewards, taken, plan)
    decision = Decision(
        lever=choice.lever,
        reason=_reason(evidence, choice, plan, forecast),
        forecast=forecast,
        edits=taken.edits if taken else (),
        weights=plan,
        features={**features_of(evidence, rewards), "forecast": forecast},
    )
    return decision.model_copy(update={"report": improvement_report(evidence, rewards, decision)})


def _forecast(evidence: Evidence, rewards: Statistics, pull: HarnessPull | None, plan: WeightPlan | None) -> float:
    if plan is not None:
        return calibrated(weights_gain(rewards), pulls_of(evidence.history, "weights", "both"))
    return pull.forecast if pull else 0.0


def _reason(evidence: Evidence, choice: Choice, plan: WeightPlan | None, forecast: float) -> str:
    text = choice.why[:1].upper() + choice.why[1:] + "."
    if plan is not None:
        text += f" Algorithm {plan.algorithm}: {plan.reason}."
    if choice.lever == "stop":
        return text
    noise = select_noise(evidence)
    return f"{text} Expected gain on select {forecast:+.4f}, where a gain's standard error is {noise:.4f}."


def features_of(evidence: Evidence, rewards: Statistics) -> dict[str, float]:
    """Return the figures that a decision rests on, in the verifier's unit where they are rewards."""
    harness, weights = harness_state(evidence), weights_state(evidence)
    return {
        **rewards.features(),
        "harness_banked": harness.banked,
        "harness_error": harness.error,
        "harness_stalled": float(harness.state == "stalled"),
        "weights_banked": weights.banked,
        "weights_error": weights.error,
        "weights_stalled": float(weights.state == "stalled"),
        "refused_in_a_row": float(unaccepted(evidence.history)),
        "select_noise": select_noise(evidence),
    }
