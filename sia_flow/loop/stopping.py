"""Why a run ends early: a polite stop, asked for at any time and obeyed where nothing is lost, or a spent budget."""

from __future__ import annotations

import threading

from sia_flow.errors import Interrupted
from sia_flow.lineage.records import Spend
from sia_flow.spec.loop import Budget


class Stop:
    """A flag that the user raises; the loop looks at it between steps and between training iterations."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask the run to stop at the next safe point."""
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether the user has asked."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the user asks. Raises Interrupted then."""
        self._asked.wait(seconds)
        self.obey()

    def obey(self) -> None:
        """Raise Interrupted if the user has asked."""
        if self.asked:
            raise Interrupted("stopped; everything up to here is stored: the same command again goes on from here")


def spent(budget: Budget, spend: Spend) -> str | None:
    """Return the first limit of a budget, wall time left out, that a spend has reached: `budget.rollouts`, say."""
    tokens = spend.prompt_tokens + spend.completion_tokens
    if budget.rollouts is not None and spend.rollouts >= budget.rollouts:
        return "budget.rollouts"
    if budget.tokens is not None and tokens >= budget.tokens:
        return "budget.tokens"
    # Without an amount nothing may cost money; what is free always may. A total is held by the books.
    usd = budget.usd if budget.total is None or budget.usd is not None else "unlimited"
    if usd != "unlimited" and spend.usd > 0 and spend.usd >= (usd or 0.0):
        return "budget.usd"
    return None
