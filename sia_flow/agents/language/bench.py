"""What an agent's tools stand on: the records of its arm and the sandbox, and nothing else of the machine.

Invariant: train rollouts alone; metrics that only a known truth gives, sealed figures and private fields are not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sia_flow.agents.language.toolbox import UnusableError
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Generation, Trajectory, Verdict

Files = Mapping[str, str]
Rollouts = Sequence[tuple[Trajectory, Verdict]]


@dataclass(frozen=True, slots=True)
class Smoke:
    """How a scaffold did on one train instance."""

    rollouts: Rollouts

    @property
    def fault(self) -> str:
        """Why the scaffold itself failed; empty where it ran to its end, whatever its answer was worth."""
        broken = [t for t, _ in self.rollouts if t.status != "OK"]
        return f"{broken[0].status}: {broken[0].error}" if broken else ""


class SandboxBench(Protocol):
    """Runs scaffolds and answers, on train instances alone."""

    def smoke(self, files: Files) -> Smoke:
        """Roll a scaffold out on one instance, a few times."""

    def score(self, answer: str) -> Verdict:
        """Score an answer on one instance."""


class ArmBench(SandboxBench, Protocol):
    """The records of an arm, as its agent may see them."""

    @property
    def history(self) -> Sequence[Generation]:
        """The arm's generations, in order."""

    def sources(self, index: int) -> Files:
        """Return the scaffold of a generation."""

    def rollouts(self, index: int) -> Rollouts:
        """Return the train rollouts of a generation with their verdicts."""

    def ledger(self) -> Sequence[LedgerRow]:
        """Return the pulls of this project that were made before this experiment, and those of this arm."""


def generation_of(bench: ArmBench, index: int) -> Generation:
    """Return a generation by its index. Raises UnusableError, with those that there are."""
    for generation in bench.history:
        if generation.index == index:
            return generation
    there = ", ".join(str(generation.index) for generation in bench.history)
    raise UnusableError(f"there is no generation {index}; there are {there}")
