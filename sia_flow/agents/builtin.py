"""The agents by the type that a spec names: those that come with sia-flow and need no model and no key."""

from __future__ import annotations

from collections.abc import Sequence

from sia_flow.agents.decision import FeedbackAgent, MetaAgent
from sia_flow.agents.feedback import BuiltinFeedbackAgent
from sia_flow.agents.knowledge import LEAST
from sia_flow.agents.learned import LearnedFeedbackAgent
from sia_flow.agents.meta import BuiltinMetaAgent
from sia_flow.agents.task_edits import structural
from sia_flow.errors import SpecError
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.verify.edits import TaskEdit


def meta_agent(kind: str) -> MetaAgent:
    """Return the Meta-Agent of a type. Raises SpecError for an unknown one."""
    if kind != "builtin":
        raise SpecError(f"spec.agents.meta.type: unknown type {kind!r}; there is builtin")
    return BuiltinMetaAgent()


def feedback_agent(
    kind: str,
    ledger: Sequence[LedgerRow] = (),
    least: int | None = None,
    edits: Sequence[TaskEdit] = (),
) -> FeedbackAgent:
    """Return the Feedback-Agent of a type; `least` are the rows of an action that the learned one must know.

    `edits` are the structural edits that the task brings; without any, those for programs serve. Raises SpecError
    for an unknown type.
    """
    table = BuiltinFeedbackAgent(structural(edits)) if edits else BuiltinFeedbackAgent()
    if kind == "builtin":
        return table
    if kind == "learned":
        return LearnedFeedbackAgent(ledger, LEAST if least is None else least, table)
    raise SpecError(f"spec.agents.feedback.type: unknown type {kind!r}; there are builtin and learned")
