"""What a run tells whoever watches it: the terminal, the tracker, a test. Watching never changes the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult


class Watcher(Protocol):
    """Hears of everything that happens in a run. None of its methods may raise."""

    def step_started(self, name: str, label: str, total: int | None) -> None:
        """A step starts; `total` is its number of units where it is known (rollouts, iterations)."""

    def step_advanced(self, label: str, done: int, note: str = "") -> None:
        """`done` units of the running step are finished."""

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        """A step has its record; `cached` where it had one before."""

    def training_step(self, arm: str, seed: int, index: int, step: int, metrics: Mapping[str, float]) -> None:
        """One iteration of a weight update is done."""

    def generation(self, arm: str, generation: Generation) -> None:
        """A generation is stored."""

    def arm_ended(self, result: ArmResult) -> None:
        """An arm is finished."""

    def approval(self, word: str, text: str) -> None:
        """A pull waits for a person (`asked`), or was answered: `yes`, `no`, `go`, `stop`."""

    def warning(self, text: str) -> None:
        """Something outside the experiment went wrong, and the run goes on."""


class Silent:
    """A watcher that does nothing; base of those that care for some events only."""

    def step_started(self, name: str, label: str, total: int | None) -> None:
        """Ignore it."""

    def step_advanced(self, label: str, done: int, note: str = "") -> None:
        """Ignore it."""

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        """Ignore it."""

    def training_step(self, arm: str, seed: int, index: int, step: int, metrics: Mapping[str, float]) -> None:
        """Ignore it."""

    def generation(self, arm: str, generation: Generation) -> None:
        """Ignore it."""

    def arm_ended(self, result: ArmResult) -> None:
        """Ignore it."""

    def approval(self, word: str, text: str) -> None:
        """Ignore it."""

    def warning(self, text: str) -> None:
        """Ignore it."""


class Several(Silent):
    """Tells several watchers."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def step_started(self, name: str, label: str, total: int | None) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.step_started(name, label, total)

    def step_advanced(self, label: str, done: int, note: str = "") -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.step_advanced(label, done, note)

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.step_ended(name, label, cached=cached)

    def training_step(self, arm: str, seed: int, index: int, step: int, metrics: Mapping[str, float]) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.training_step(arm, seed, index, step, metrics)

    def generation(self, arm: str, generation: Generation) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.generation(arm, generation)

    def arm_ended(self, result: ArmResult) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.arm_ended(result)

    def approval(self, word: str, text: str) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.approval(word, text)

    def warning(self, text: str) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.warning(text)
