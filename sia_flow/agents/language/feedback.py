"""The Feedback-Agent as a language model: evidence and tools in, one decision by schema out.

Invariants: a lever that the arm may not pull is never chosen; an edit that is handed over honours the contract and ran
on a smoke instance; where the model fails, the builtin agent decides, and the record says so and why.
"""

from __future__ import annotations

from collections.abc import Sequence

from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import Statistics, statistics_of
from sia_flow.agents.feedback import BuiltinFeedbackAgent, features_of
from sia_flow.agents.language.bench import ArmBench
from sia_flow.agents.language.brief import Brief, brief_of
from sia_flow.agents.language.edits import checked_change
from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.past import history_tools
from sia_flow.agents.language.prompts import FEEDBACK, system_of
from sia_flow.agents.language.render import plain_markdown
from sia_flow.agents.language.rollouts import rollout_tools
from sia_flow.agents.language.schema import Change, Ruling
from sia_flow.agents.language.talk import Talk
from sia_flow.agents.language.toolbox import Toolbox
from sia_flow.agents.language.workspace import file_tools, run_tools
from sia_flow.agents.report import inline
from sia_flow.agents.weights import weight_plan
from sia_flow.dialogue import Talker
from sia_flow.lineage.records import Decision, Edit, WeightPlan

RATES = (0.1, 10.0)


class LanguageFeedbackAgent:
    """Decides by a model. `transcript` and `failure` tell of the last decision."""

    def __init__(
        self,
        talker: Talker,
        bench: ArmBench,
        task: str,
        evidence: int = 24_000,
        turns: int = 24,
        services: Sequence[str] = (),
    ) -> None:
        """Decide nothing yet; `services` are the addresses that scaffolds may read."""
        self.transcript = b""
        self.failure: AgentFailedError | None = None
        self._talker = talker
        self._bench = bench
        self._task = task
        self._budget = evidence
        self._turns = turns
        self._services = services

    def decide(self, evidence: Evidence) -> Decision:
        """Return the model's decision, or the builtin agent's where the model gives none that can be used.

        Raises what the model's `ask` raises, and ScaffoldError as the builtin agent does.
        """
        self.failure = None
        rewards = statistics_of(evidence.trajectories, evidence.verdicts)
        brief = brief_of(evidence, rewards, self._bench, self._budget)
        system = system_of(FEEDBACK, self._task, self._services)
        talk = Talk(self._talker, system, self._tools(evidence), Ruling, self._turns)
        try:
            decision = self._decided(talk, evidence, rewards, brief)
        except AgentFailedError as error:
            self.failure = error
            decision = BuiltinFeedbackAgent().decide(evidence)
            why = f"The builtin agent decided, for the model failed ({error.code}): {inline(str(error), 400)}"
            decision = decision.model_copy(update={"reason": f"{decision.reason} {why}"})
        finally:
            self.transcript = talk.transcript()
        features = {**decision.features, **brief.features(), "model_failed": float(self.failure is not None)}
        return decision.model_copy(update={"features": features})

    def _tools(self, evidence: Evidence) -> Toolbox:
        bench = self._bench
        files = {**evidence.scaffold, "task.md": self._task}
        runs = run_tools(evidence.scaffold, bench)
        return Toolbox([*file_tools(files), *rollout_tools(bench), *history_tools(bench), *runs])

    def _decided(self, talk: Talk[Ruling], evidence: Evidence, rewards: Statistics, brief: Brief) -> Decision:
        ruling = talk.answer(f"{brief.text}\n\nDecide what to do next.")
        for repaired in (False, True):
            fault = _fault(ruling, evidence)
            edits, broken = ((), []) if fault else self._edits(ruling, evidence)
            problem = fault or ("; ".join(broken) if broken and not edits else "")
            if not problem or (edits and repaired):
                return _decision(ruling, edits, evidence, rewards)
            if repaired:
                raise AgentFailedError("edit" if broken else "schema", problem)
            ruling = talk.answer(f"{problem}. Mend it and answer once more, in full.")
        raise AssertionError("the loop returns or raises")

    def _edits(self, ruling: Ruling, evidence: Evidence) -> tuple[tuple[Edit, ...], list[str]]:
        """Return the edits that run, and what is wrong with the others."""
        edits, broken = list[Edit](), list[str]()
        if ruling.lever not in ("harness", "both"):
            return (), []
        for change in _named_apart(ruling.edits)[: max(1, evidence.trials)]:
            try:
                files = checked_change(evidence.scaffold, change, self._bench)
            except AgentFailedError as error:
                broken.append(str(error))
                continue
            changed = {name: text for name, text in files.items() if evidence.scaffold.get(name) != text}
            edits.append(Edit(kind="files", name=inline(change.name, 80), summary=change.summary, files=changed))
        return tuple(edits), broken


def _fault(ruling: Ruling, evidence: Evidence) -> str:
    """Return what is wrong with a decision that fits the schema; empty where nothing is."""
    wanted = {"both": {"harness", "weights"}, "stop": set()}.get(ruling.lever, {ruling.lever})
    missing = sorted(wanted - set(evidence.levers))
    if missing:
        return f"this arm may not pull {', '.join(missing)}; it may pull {', '.join(evidence.levers)}"
    if "harness" in wanted and not ruling.edits:
        return f"lever {ruling.lever} needs an edit"
    if "weights" in wanted and ruling.algorithm is not None and ruling.algorithm not in evidence.menu:
        return f"no algorithm {ruling.algorithm!r}; there is {', '.join(evidence.menu)}"
    return ""


def _decision(ruling: Ruling, edits: tuple[Edit, ...], evidence: Evidence, rewards: Statistics) -> Decision:
    forecast = 0.0 if ruling.lever == "stop" else ruling.forecast
    return Decision(
        lever=ruling.lever,
        reason=" ".join(plain_markdown(ruling.reason).split()),
        forecast=forecast,
        report=plain_markdown(ruling.analysis),
        edits=edits,
        weights=_plan(ruling, evidence, rewards) if ruling.lever in ("weights", "both") else None,
        features={**features_of(evidence, rewards), "forecast": forecast},
    )


def _plan(ruling: Ruling, evidence: Evidence, rewards: Statistics) -> WeightPlan:
    """Return the plan of an update: the model's algorithm or the table's, its own rate times the model's factor."""
    plan = weight_plan(evidence, rewards, ruling.algorithm)
    if ruling.algorithm is None:
        return plan
    if ruling.rate is None:
        return plan.model_copy(update={"reason": "the model names it"})
    factor = min(max(ruling.rate, RATES[0]), RATES[1])
    rate = evidence.rates(ruling.algorithm)[0] * factor
    return plan.model_copy(update={"learning_rate": rate, "reason": f"the model names it, at {factor:g} of its rate"})


def _named_apart(changes: Sequence[Change]) -> list[Change]:
    """Return the changes with names that differ: alternatives are told apart by them."""
    seen: dict[str, int] = {}
    apart = []
    for change in changes:
        seen[change.name] = seen.get(change.name, 0) + 1
        count = seen[change.name]
        apart.append(change if count == 1 else change.model_copy(update={"name": f"{change.name} ({count})"}))
    return apart
