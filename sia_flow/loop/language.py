"""Both agents as language models: who pays, which model, what the step's record keeps.

Invariant: a step of a language agent is stored with its transcript; one that a cap of the budget cut short is not
stored, and takes up its talk where it was, for nothing, when there is more to spend.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sia_flow.agents.decision import Evidence
from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.feedback import LanguageFeedbackAgent
from sia_flow.agents.language.meta import LanguageMetaAgent
from sia_flow.errors import BudgetSpentError
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Generation, Spend
from sia_flow.lineage.store import StepOutput
from sia_flow.loop.arm import ArmState
from sia_flow.loop.bench import StateBench, TrainBench
from sia_flow.loop.books import EVIDENCE, TURNS, kind_of, role_of
from sia_flow.loop.lab import Lab
from sia_flow.loop.network import granted
from sia_flow.providers.choice import Standing, chances, drawn
from sia_flow.providers.journal import Account
from sia_flow.providers.metering import MeteredTalker
from sia_flow.providers.prices import rate_of
from sia_flow.providers.settings import choices_of
from sia_flow.spec.language import LanguageFields

SAMPLES = 2
"""Train instances whose public fields the Meta-Agent is shown."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A role with the model that was drawn for its task."""

    section: LanguageFields
    index: int
    """Of the model, among the role's."""
    talker: MeteredTalker

    @property
    def turns(self) -> int:
        """Calls that the task may take."""
        return self.section.turns or TURNS


def speaks(lab: Lab, role: str) -> bool:
    """Say whether a language model plays a role."""
    return role_of(lab.experiment, role) is not None


def language_synth(lab: Lab, seed: int) -> tuple[dict[str, str], StepOutput]:
    """Return the first scaffold by a model, and what its step keeps; the reference where the model has none to give."""
    seat = seat_of(lab, Account(None, seed, "meta"), ())
    bench = TrainBench(lab, None, seed, f"seed {seed} gen 0 smoke")
    agent = LanguageMetaAgent(seat.talker, bench, train_fields(lab), seat.turns, granted(lab.experiment))
    result = {"model": seat.talker.model, "failure": ""}
    with _accounted(seat):
        try:
            files = agent.write(lab.task.description(), lab.task.reference(), seed)
        except AgentFailedError as error:
            lab.watcher.warning(f"the Meta-Agent wrote no scaffold ({error.code}): {error}; the reference stands in")
            files, result["failure"] = lab.task.reference(), f"{error.code}: {error}"
    outputs = {"transcript": lab.store.objects.put_bytes(agent.transcript)}
    spend = bench.spend + Spend(usd=seat.talker.bill.usd)
    return files, StepOutput(outputs, {**result, "notes": agent.notes}, spend, lab.isolation)


def language_feedback(lab: Lab, state: ArmState, evidence: Evidence, rows: Sequence[LedgerRow]) -> StepOutput:
    """Return what the step of a decision by a model keeps."""
    seat = seat_of(lab, Account(state.arm.name, state.seed, "feedback"), state.history)
    bench = StateBench(lab, state, rows)
    words = seat.section.evidence or EVIDENCE
    services = granted(lab.experiment)
    agent = LanguageFeedbackAgent(seat.talker, bench, lab.task.description(), words, seat.turns, services)
    with _accounted(seat):
        decision = agent.decide(evidence)
    if agent.failure is not None:
        name = state.label(len(state.history))
        lab.watcher.warning(f"{name}: the builtin agent decides: {agent.failure.code}: {agent.failure}")
    features = {**decision.features, "model": float(seat.index)}
    result = decision.model_copy(update={"features": features}).model_dump(mode="json")
    outputs = {"transcript": lab.store.objects.put_bytes(agent.transcript)}
    return StepOutput(outputs, result, bench.spend + Spend(usd=seat.talker.bill.usd), lab.isolation)


@contextlib.contextmanager
def _accounted(seat: Seat) -> Iterator[None]:
    """Tell what a talk had cost when a cap ended it."""
    try:
        yield
    except BudgetSpentError as error:
        error.usd = seat.talker.bill.usd
        raise


def train_fields(lab: Lab) -> list[dict[str, Any]]:
    """Return the public fields of train instances that a model is shown."""
    return [dict(i.public) for i in lab.instances("train", lab.spec.rollouts.instances)[:SAMPLES]]


def seat_of(lab: Lab, account: Account, history: Sequence[Generation]) -> Seat:
    """Return who plays a role in a task of an arm: one of the role's models, drawn by its record."""
    section = role_of(lab.experiment, account.role)
    assert section is not None
    choices = choices_of(kind_of(section), section)
    prices = lab.spec.budget.prices
    rates = [rate_of(choice.settings.model, prices) for choice in choices]
    probabilities = chances(choices, rates, _standings(history, len(choices)), section.thrift or 0.0)
    stream = [account.role, account.arm, account.seed, len(history)]
    index = drawn(probabilities, stream)
    provider = lab.models.provider(choices[index].settings)
    return Seat(section, index, MeteredTalker(lab.models.meter, provider, account, stream, lab.stop.obey))


def _standings(history: Sequence[Generation], count: int) -> list[Standing]:
    """Return what each model's decisions came to in this arm."""
    found = [Standing()] * count
    for generation in history:
        made_by = generation.decision.features.get("model") if generation.decision else None
        if made_by is not None and int(made_by) < count:
            old = found[int(made_by)]
            found[int(made_by)] = Standing(old.pulls + 1, old.accepted + generation.accepted)
    return found
