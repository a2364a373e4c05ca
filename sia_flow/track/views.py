"""What a tracker is told: frozen views made of records, never live objects.

Invariant: a view holds all that its tracker entry shows, so that the tracker can be rebuilt from the store
by replaying the same views; showing a view twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from sia_flow.canonical import digest
from sia_flow.lineage.records import Generation, Trajectory, Verdict
from sia_flow.lineage.results import ArmResult

Halt = Literal["KILLED", "FAILED"]
"""How an arm was left: stopped by the user, or by a fault."""


@dataclass(frozen=True, slots=True)
class ArmView:
    """One arm and seed of an experiment."""

    experiment: str
    run: str
    """Identity of the run, stable while a spec is only extended: more seeds, arms or budget keep it."""
    arm: str
    seed: int
    spec: Mapping[str, Any] = field(default_factory=dict)
    """The resolved spec, as JSON values."""
    levers: tuple[str, ...] = ()
    control: str | None = None

    @property
    def key(self) -> str:
        """Hash that names this arm and seed in every tracker."""
        return digest([self.experiment, self.run, self.arm, self.seed])


@dataclass(frozen=True, slots=True)
class GenerationView:
    """One generation of an arm, with the files that people look at."""

    arm: ArmView
    generation: Generation
    first: Generation | None = None
    """Generation 0 of the arm, which the Goodhart gap counts from."""
    scaffold_files: Mapping[str, str] = field(default_factory=dict)
    diff: str = ""
    """Unified diff of the scaffold against the parent's."""
    report: str = ""
    """Markdown that tells what was decided, why, and what came of it."""
    adapter_dir: Path | None = None
    trajectories: Sequence[Trajectory] = ()
    verdicts: Sequence[Verdict] = ()
    """One verdict for each trajectory, in the same order."""
    plots: Mapping[str, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash that names this place in the arm: a generation that is still running has the same one."""
        return generation_key(self.arm, self.generation.index)


@dataclass(frozen=True, slots=True)
class FinalView:
    """The end of an arm and seed."""

    arm: ArmView
    result: ArmResult
    report: str = ""
    plots: Mapping[str, Path] = field(default_factory=dict)


def generation_key(arm: ArmView, index: int) -> str:
    """Return the key of generation `index` of an arm."""
    return digest([arm.key, index])


class Tracker(Protocol):
    """A place where people compare runs. Every call may be repeated."""

    def arm(self, view: ArmView) -> None:
        """Show an arm that has begun."""

    def generation(self, view: GenerationView) -> None:
        """Show a finished generation."""

    def live(self, arm: ArmView, generation: int, step: int, metrics: Mapping[str, float]) -> None:
        """Show a training step of the generation that is under way."""

    def final(self, view: FinalView) -> None:
        """Show the end of an arm."""

    def halt(self, arm: ArmView, status: Halt) -> None:
        """Show that an arm was left unfinished; it may go on later."""

    def page(self, path: Path) -> None:
        """Show a report of the whole experiment."""
