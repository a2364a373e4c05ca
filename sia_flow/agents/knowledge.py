"""What a ledger tells of each action: a regression of its gains, and whether that is enough to act on.

Invariant: an action is known only where it has rows enough and its regression is surer there than no row at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sia_flow.agents.bandit import Posterior, chances, prior, regress
from sia_flow.agents.context import TERMS, context_of, effects_of, unit_of
from sia_flow.lineage.ledger import LedgerRow

LEAST = 8
"""Rows of an action below which it is not known: nearly as many as a context has entries."""


class Knowledge:
    """Beliefs about the gain of each action that a ledger has rows of."""

    def __init__(self, rows: Iterable[LedgerRow], least: int = LEAST) -> None:
        self.least = least
        self.beliefs: dict[str, Posterior] = {}
        effects = effects_of(rows)
        for action in sorted({effect.action for effect in effects}):
            own = [effect for effect in effects if effect.action == action]
            self.beliefs[action] = regress(
                np.array([effect.context for effect in own]),
                np.array([effect.gain for effect in own]),
                np.array([effect.noise for effect in own]),
            )

    def lacks(self, features: Mapping[str, float], action: str) -> str:
        """Return why too little is known of an action at these features; nothing where enough is."""
        context, belief = context_of(features, action), self.beliefs.get(action)
        rows = belief.rows if belief else 0
        if context is None:
            return "the rewards do not vary, so that no gain can be scaled"
        if belief is None or rows < self.least:
            return f"it has {rows} of the {self.least} pulls of {action} that it takes"
        if belief.width(context) >= prior(len(TERMS)).width(context):
            return f"its {rows} pulls of {action} disagree so much that they tell less than none"
        return ""

    def chances(self, features: Mapping[str, float], actions: Sequence[str], seed: int) -> dict[str, float]:
        """Return the probability of each of several known actions."""
        contexts = {action: context for action in actions if (context := context_of(features, action)) is not None}
        return chances({action: self.beliefs[action] for action in contexts}, contexts, seed)

    def words(self, features: Mapping[str, float], action: str) -> str:
        """Return the expected gain of a known action with its uncertainty, in the verifier's unit."""
        context, belief, unit = context_of(features, action), self.beliefs[action], unit_of(features)
        if context is None:
            return "unknown"
        return f"{belief.expected(context) * unit:+.4f} +- {belief.width(context) * unit:.4f} from {belief.rows} pulls"
