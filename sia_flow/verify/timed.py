"""What a timed task's verifier says beside `Verifier`: what a program is called on, and what its times are worth.

Invariant: nothing here depends on how programs are run; times are ratios to the reference that ran beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from sia_flow.lineage.records import Verdict
from sia_flow.protocols import CallForm, Instance, Verifier


@dataclass(frozen=True, slots=True)
class TimedCase:
    """One form of call that a program is checked or timed on."""

    name: str
    form: CallForm


@dataclass(frozen=True, slots=True)
class TimedPlan:
    """What a program goes through on an instance."""

    checks: tuple[TimedCase, ...]
    """On each of these it is called once and must be right; the first call of all may take its time, to compile."""
    timed: tuple[TimedCase, ...]
    repeats: int
    """Timed calls on each case, each with new inputs and checked like the others."""
    sessions: int = 1
    """How often all of that is done in a new process; a case counts with the median of its speed-ups."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an output is refused."""

    reason: str
    feedback: str


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast a program was on one case."""

    case: str
    seconds: float
    """Processor time of a call."""
    speedup: float
    """The reference's time over the program's."""


class TimedVerifier(Verifier, Protocol):
    """The verifier of a task whose answers are programs that are timed."""

    def reference(self) -> str:
        """Return the program that answers are compared with and times are measured against."""

    def plan(self, instance: Instance) -> TimedPlan:
        """Return what a program is called on."""

    def inputs(self, case: TimedCase, seed: int) -> Mapping[str, NDArray[Any]]:
        """Draw the inputs of a call; no candidate can foresee them."""

    def fault(self, output: NDArray[Any], expected: NDArray[Any]) -> Fault | None:
        """Return what is wrong with an output beside the reference's, or None."""

    def verdict(self, timings: Sequence[Timing]) -> Verdict:
        """Return the verdict of a program that was right in every call."""
