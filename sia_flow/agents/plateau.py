"""When a lever has stalled: the gains of its last pulls on select against their standard errors.

Invariant: noise alone never counts as progress (a refused pull banks nothing), and with a patience of two or
more one unlucky pull is no stall unless even its upper bound is below zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sia_flow.lineage.records import Generation

State = Literal["untried", "improving", "undecided", "stalled"]


@dataclass(frozen=True, slots=True)
class Plateau:
    """The verdict on one lever's last pulls."""

    state: State
    pulls: int
    """Pulls in the window."""
    banked: float
    """Mean accepted gain a pull."""
    error: float
    """Its standard error."""

    def words(self) -> str:
        """Return the verdict in words, with its numbers."""
        if self.state == "untried":
            return "had no pull yet"
        gain = f"gained {self.banked:+.4f} +- {self.error:.4f} a pull over the last {self.pulls}"
        return f"{gain}: {self.state}"


def plateau(
    pulls: Sequence[Generation], *, patience: int = 2, least: int = 1, k: float = 1.0, noise: float = 0.0
) -> Plateau:
    """Judge the last `patience` pulls of a lever, given in order.

    Pull i has the paired gain g_i on select, with s_i the larger of its standard error and `noise`. It banks
    b_i = g_i where it was accepted, else 0. With m pulls in the window, their mean B = sum(b_i) / m and its
    error S = sqrt(sum(s_i^2)) / m:

        improving   B > k S
        stalled     not improving, m >= least, and m = patience or g_i + k s_i <= 0 for every i
        undecided   else
    """
    window = list(pulls)[-patience:]
    if not window:
        return Plateau("untried", 0, 0.0, 0.0)
    errors = [max(pull.gain_se, noise) for pull in window]
    banked = math.fsum(pull.gain for pull in window if pull.accepted) / len(window)
    error = math.sqrt(math.fsum(s * s for s in errors)) / len(window)
    hopeless = all(pull.gain + k * s <= 0 for pull, s in zip(window, errors, strict=True))
    if banked > k * error:
        state: State = "improving"
    else:
        enough = len(window) >= least and (len(window) >= patience or hopeless)
        state = "stalled" if enough else "undecided"
    return Plateau(state, len(window), banked, error)


def pulls_of(history: Sequence[Generation], *levers: str) -> list[Generation]:
    """Return the generations that a pull of one of the levers made, in order."""
    return [generation for generation in history if generation.decision and generation.decision.lever in levers]


def last_phase(history: Sequence[Generation], lever: str) -> list[Generation]:
    """Return the unbroken run of pulls of one lever at the end of the history."""
    phase: list[Generation] = []
    for generation in reversed(history):
        if generation.decision is None or generation.decision.lever != lever:
            break
        phase.append(generation)
    return phase[::-1]


def unaccepted(history: Sequence[Generation]) -> int:
    """Return how many generations at the end of the history were refused."""
    count = 0
    for generation in reversed(history):
        if generation.accepted:
            break
        count += 1
    return count
