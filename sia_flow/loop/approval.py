"""The gate before a pull: who has to say yes, the waiting for it, and how an arm ends without.

Invariant: a step that has a record is never asked for, and what was answered for a decision is not asked again; an
unanswered question is asked anew by the run that comes to it next.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from sia_flow.canonical import Json, digest
from sia_flow.errors import NotApprovedError
from sia_flow.lineage.approvals import Answer, Approvals, Question, approvals_of
from sia_flow.lineage.records import Decision, Lever
from sia_flow.lineage.store import StepRecord
from sia_flow.loop.arm import ArmState
from sia_flow.loop.decide import decision_of
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared
from sia_flow.spec.approval import Approve

LOOK = 0.2
"""Seconds between two looks at the answers."""
LEVERS: Mapping[str, tuple[Lever, ...]] = {
    "harness": ("harness",),
    "weights": ("weights",),
    "both": ("harness", "weights"),
}


def permitted(lab: Lab, state: ArmState, feedback: StepRecord, prepared: Prepared) -> Prepared:
    """Return a step of the pull that a decision asks for, once it may run; it waits for a person where it must.

    Raises NotApprovedError where the answer is no, or none came in time, and Interrupted.
    """
    gate = lab.spec.approve
    if gate is None or lab.store.find(prepared.step.key) is not None:
        return prepared
    question = _question(lab, state, feedback, gate)
    if question is None:
        return prepared
    book = approvals_of(lab.store.root.parent, lab.experiment.metadata.name)
    answer = _standing(book, question)
    if answer is None and lab.store.rehearsal:
        return prepared
    answer = answer or _wait(lab, state, gate, book, question)
    if answer.word in ("no", "stop"):
        reason = "approval.refused" if answer.word == "no" else "approval.timeout"
        raise NotApprovedError(reason, question.id, f"{question.name}: {answer.word}, by {answer.by}")
    return prepared


def refusals(lab: Lab, state: ArmState) -> list[str]:
    """Return the ids of the questions at which an arm has ended, as far as the spec would still ask them."""
    gate = lab.spec.approve
    if gate is None:
        return []
    asked = approvals_of(lab.store.root.parent, lab.experiment.metadata.name).questions()
    own = (q for q in asked if (q.arm, q.seed) == (state.arm.name, state.seed) and gate.reasons(q.levers, q.usd))
    return [q.id for q in own if q.answer is not None and q.answer.word in ("no", "stop")]


def _question(lab: Lab, state: ArmState, feedback: StepRecord, gate: Approve) -> Question | None:
    """Return what a person has to be asked about a decision; None where nothing."""
    decision: Decision = decision_of(feedback)
    levers = LEVERS[decision.lever]
    # What the pull leads to costs another decision: as much as this one did.
    usd = state.spend.usd + 2 * feedback.spend.usd
    why = gate.reasons(levers, usd)
    if not why:
        return None
    name, index = lab.experiment.metadata.name, len(state.history)
    place: list[Json] = [name, state.arm.name, state.seed, index, feedback.key, decision.model_dump(mode="json")]
    return Question(
        id=digest(place),
        arm=state.arm.name,
        seed=state.seed,
        index=index,
        action=decision.action,
        reason=" ".join(decision.reason.split()),
        why="; ".join(why),
        levers=levers,
        usd=usd,
    )


def _wait(lab: Lab, state: ArmState, gate: Approve, book: Approvals, question: Question) -> Answer:
    """Ask, and return the answer; the clock gives it where nobody does."""
    book.ask(question)
    command = f"sia-flow approve {lab.experiment.metadata.name} --arm {state.arm.name} --seed {state.seed}"
    text = f"{question.name}, {question.action} ({question.why}): {question.reason}"
    lab.watcher.approval("asked", f"{text} Answer with `{command}`, or with --no")
    began = time.monotonic()
    try:
        with lab.pause(f"{text} Resume lets it go on.") as resumed:
            while (answer := _standing(book, question)) is None:
                if resumed():
                    book.settle(question.id, "yes", "Resume on Prefect's page")
                elif gate.timeout is not None and time.monotonic() - began >= gate.timeout:
                    book.settle(question.id, gate.otherwise, "nobody in time")
                else:
                    lab.stop.wait(LOOK)
    finally:
        state.waited += time.monotonic() - began
    lab.watcher.approval(answer.word, f"{question.name}, by {answer.by}")
    return answer


def _standing(book: Approvals, question: Question) -> Answer | None:
    held = book.find(question.id)
    return held.answer if held else None
