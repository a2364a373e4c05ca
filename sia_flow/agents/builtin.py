"""The agents by the type that a spec names. Only the builtin ones are here; they need no model and no key."""

from __future__ import annotations

from sia_flow.agents.decision import FeedbackAgent, MetaAgent
from sia_flow.agents.feedback import BuiltinFeedbackAgent
from sia_flow.agents.meta import BuiltinMetaAgent
from sia_flow.errors import SpecError


def meta_agent(kind: str) -> MetaAgent:
    """Return the Meta-Agent of a type. Raises SpecError for an unknown one."""
    _known(kind, "spec.agents.meta.type")
    return BuiltinMetaAgent()


def feedback_agent(kind: str) -> FeedbackAgent:
    """Return the Feedback-Agent of a type. Raises SpecError for an unknown one."""
    _known(kind, "spec.agents.feedback.type")
    return BuiltinFeedbackAgent()


def _known(kind: str, where: str) -> None:
    if kind != "builtin":
        raise SpecError(f"{where}: unknown type {kind!r}; there is builtin")
