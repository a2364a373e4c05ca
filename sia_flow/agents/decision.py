"""What the two agents are, and what the Feedback-Agent is shown.

Invariant: evidence holds train trajectories and select scores, never a sealed figure, and nothing that
depends on how much budget is left, so that a longer budget extends an arm instead of changing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sia_flow.lineage.records import Decision, Generation, Lever, Trajectory, Verdict

Rewards = Mapping[str, Sequence[float]]
Validity = Mapping[str, Sequence[bool]]
Choose = Callable[[Rewards, Validity, Sequence[str]], tuple[str, str]]
"""Rewards and validity by instance, and the menu, in; the algorithm and the reason in words out."""

Rates = Callable[[str], tuple[float, float]]
"""Algorithm in; its learning rate and its KL coefficient out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a decision may rest on."""

    levers: tuple[Lever, ...]
    """Those that the arm may pull."""
    generation: Generation
    """The last one made."""
    incumbent: Generation
    """The one that the next is made from."""
    history: tuple[Generation, ...]
    """The arm's generations in order, the last one included."""
    scaffold: Mapping[str, str]
    """The incumbent's files: what an edit changes."""
    trajectories: Sequence[Trajectory]
    """The incumbent's rollouts on train."""
    verdicts: Sequence[Verdict]
    """Their verdicts, in the same order."""
    best_program: str | None
    """The best answer on train so far."""
    menu: tuple[str, ...]
    """Training algorithms to choose from; a single one is pinned by the spec."""
    iterations: int
    rates: Rates
    """What an algorithm trains with before the agent has learnt better."""
    trials: int
    """How many alternative edits a harness pull may try on train."""
    seed: int
    choose: Choose
    noise: float = 0.0
    """Standard deviation of the verifier's own noise on a select mean; a floor under standard errors."""


class MetaAgent(Protocol):
    """Writes the first scaffold."""

    def write(self, task_description: str, reference: Mapping[str, str], seed: int) -> dict[str, str]:
        """Return the files of a scaffold that honours the contract."""


class FeedbackAgent(Protocol):
    """Reads the evidence of a generation and decides what to do next."""

    def decide(self, evidence: Evidence) -> Decision:
        """Return the decision, the same for the same evidence."""
