"""One row a pull of a lever: what was known, what was pulled, what it was expected to gain and what it gained.

Invariant: a row is computed from records and holds nothing that they do not; no sealed figure is among it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sia_flow.lineage.records import Draw, Pull, Record, Spend


class LedgerRow(Record):
    """A pull of a lever and what came of it."""

    kind: Literal["sia-flow/ledger-row@1"] = "sia-flow/ledger-row@1"
    generation: str
    """Id of the generation that the pull made."""
    experiment: str | None
    """None until the arm is finished: a generation knows no arm, for several may share it."""
    arm: str | None
    task: str | None
    """Digest of the task folder; None where the rollout's step record is gone."""
    seed: int
    index: int
    """The generation's position in its arm."""
    features: Mapping[str, float]
    """What the decision rested on; empty for an agent that looks at nothing."""
    lever: Pull
    action: str
    """The lever and its kind of edit or its algorithm: `harness-constants`, `weights-grpo`."""
    edits: tuple[str, ...]
    """Names of the alternative edits."""
    algorithm: str | None
    forecast: float
    gain: float
    """On select, paired with the incumbent, in the verifier's unit."""
    gain_se: float
    accepted: bool
    spend: Spend
    """Of the generation, its evaluation included."""
    draw: Draw | None = None

    @property
    def propensity(self) -> float:
        """The probability with which the action was chosen; 1 where nothing was drawn."""
        return 1.0 if self.draw is None else self.draw.chances[self.action]
