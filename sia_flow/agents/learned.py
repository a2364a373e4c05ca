"""The learned Feedback-Agent: the table's decision, unless the ledger knows of a pull that gains more.

Invariant: equal evidence and an equal ledger give an equal decision; it pulls only what the table could offer, never
overrides a stop, draws no update that was refused on the same incumbent, and keeps the table's decision wherever it
knows too little, saying so in the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sia_flow.agents.bandit import drawn
from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import Statistics, statistics_of
from sia_flow.agents.feedback import BuiltinFeedbackAgent, decision_on, features_of
from sia_flow.agents.harness import HarnessPull, Offers, preferred
from sia_flow.agents.knowledge import LEAST, Knowledge
from sia_flow.agents.levers import Choice, choose_lever
from sia_flow.agents.weights import refused_here, weight_plan
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Decision, Draw, WeightPlan


@dataclass(frozen=True, slots=True)
class Action:
    """A pull that could be made now."""

    choice: Choice
    pull: HarnessPull | None
    plan: WeightPlan | None

    @property
    def name(self) -> str:
        """As the ledger calls it."""
        if self.plan is not None:
            return f"weights-{self.plan.algorithm}"
        return f"harness-{self.pull.kind}" if self.pull is not None else self.choice.lever

    def decision(self, evidence: Evidence, rewards: Statistics, why: str = "") -> Decision:
        """Return the decision to make this pull, with words added to its reason."""
        choice = replace(self.choice, why=f"{self.choice.why}; {why}") if why else self.choice
        return decision_on(evidence, rewards, choice, self.pull, self.plan)


class LearnedFeedbackAgent:
    """Decides by Thompson's rule on what earlier pulls of the project gained."""

    def __init__(
        self, rows: Sequence[LedgerRow], least: int = LEAST, table: BuiltinFeedbackAgent | None = None
    ) -> None:
        self.table = table or BuiltinFeedbackAgent()
        self.knowledge = Knowledge(rows, least)

    def decide(self, evidence: Evidence) -> Decision:
        """Return the decision, the same for the same evidence and ledger.

        Raises ScaffoldError for an incumbent whose block of constants is malformed.
        """
        rewards = statistics_of(evidence.trajectories, evidence.verdicts)
        offers = self.table.offers(evidence, rewards)
        advice = _advice(evidence, rewards, offers)
        if advice.choice.lever == "stop":
            return advice.decision(evidence, rewards)
        features = features_of(evidence, rewards)
        names = dict.fromkeys([*_names(evidence, offers), advice.name])
        lacking = {name: self.knowledge.lacks(features, name) for name in names}
        known = [name for name, lack in lacking.items() if not lack]
        if lacking[advice.name] or len(known) < 2:
            why = (
                lacking[advice.name] or "; ".join(lack for lack in lacking.values() if lack) or "no other pull is left"
            )
            return advice.decision(evidence, rewards, f"the table decides, for the ledger knows too little: {why}")
        chances = self.knowledge.chances(features, known, evidence.seed)
        name = drawn(chances, evidence.seed)
        action = advice if name == advice.name else _action(name, evidence, rewards, offers)
        decision = action.decision(evidence, rewards, self._why(features, advice.name, name, chances))
        return decision.model_copy(update={"draw": Draw(table=advice.name, chances=chances)})

    def _why(self, features: dict[str, float], table: str, name: str, chances: dict[str, float]) -> str:
        gains = f"{name} {self.knowledge.words(features, name)}"
        if name == table:
            return f"the ledger, too, drew {name} with probability {chances[name]:.2f}, expecting of {gains}"
        other = f"{table} {self.knowledge.words(features, table)}"
        return f"drawn with probability {chances[name]:.2f}, expecting of {gains}, of {other}"


def _advice(evidence: Evidence, rewards: Statistics, offers: Offers) -> Action:
    """Return what the table would do."""
    pull = preferred(evidence, offers)
    choice = choose_lever(evidence, pull)
    plan = weight_plan(evidence, rewards) if choice.lever == "weights" else None
    return Action(choice, pull if choice.lever == "harness" else None, plan)


def _names(evidence: Evidence, offers: Offers) -> list[str]:
    pulls = [f"harness-{pull.kind}" for pull in (offers.constants, offers.structure) if pull is not None]
    refused = refused_here(evidence)
    menu = evidence.menu if "weights" in evidence.levers else ()
    return pulls + [f"weights-{algorithm}" for algorithm in menu if algorithm not in refused]


def _action(name: str, evidence: Evidence, rewards: Statistics, offers: Offers) -> Action:
    lever, _, detail = name.partition("-")
    why = f"the ledger overrides the table with {name}"
    if lever == "weights":
        return Action(Choice("weights", why), None, weight_plan(evidence, rewards, detail))
    pull = offers.constants if detail == "constants" else offers.structure
    return Action(Choice("harness", why), pull, None)
