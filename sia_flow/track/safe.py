"""A tracker that cannot stop a run: its faults become one warning and the mark `dirty`.

Invariant: no method raises, save when the user interrupts. What was lost is shown again by replaying the
views from the store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from sia_flow.track.views import ArmView, FinalView, GenerationView, Halt, Tracker

logger = logging.getLogger("sia_flow.track")
PATIENCE = 3
"""Faults in a row after which the tracker is left alone: each may have cost a time-out."""


class SafeTracker:
    """Wraps the tracker that `make` gives, made at the first call: a broken one costs a warning."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._tracker: Tracker | None = None
        self._making = threading.Lock()
        self._faults = 0
        self.dirty = False
        """Whether something is missing in the tracker."""
        self.reason = ""
        """The first fault, in words."""

    def start_async(self) -> None:
        """Make the tracker in the background: the first use of a database takes seconds."""
        threading.Thread(target=self._try, args=(lambda _tracker: None,), daemon=True).start()

    def arm(self, view: ArmView) -> None:
        """Show an arm that has begun."""
        self._try(lambda tracker: tracker.arm(view))

    def generation(self, view: GenerationView) -> None:
        """Show a finished generation."""
        self._try(lambda tracker: tracker.generation(view))

    def live(self, arm: ArmView, generation: int, step: int, metrics: Mapping[str, float]) -> None:
        """Show a training step of the generation that is under way."""
        self._try(lambda tracker: tracker.live(arm, generation, step, metrics))

    def final(self, view: FinalView) -> None:
        """Show the end of an arm."""
        self._try(lambda tracker: tracker.final(view))

    def halt(self, arm: ArmView, status: Halt) -> None:
        """Show that an arm was left unfinished."""
        self._try(lambda tracker: tracker.halt(arm, status))

    def page(self, path: Path) -> None:
        """Show a report of the whole experiment."""
        self._try(lambda tracker: tracker.page(path))

    def _try(self, call: Callable[[Tracker], None]) -> None:
        if self._faults >= PATIENCE:
            return
        # The one broad except of the package: MLflow lets the faults of SQLAlchemy, requests, protobuf and
        # its plugins through as they are, and none of them may cost a run that the store keeps anyway.
        try:
            call(self._made())
            self._faults = 0
        except Exception as error:  # noqa: BLE001
            self._note(error)

    def _made(self) -> Tracker:
        with self._making:
            if self._tracker is None:
                self._tracker = self._make()
        return self._tracker

    def _note(self, error: Exception) -> None:
        self._faults = PATIENCE if self._tracker is None else self._faults + 1
        if not self.dirty:
            self.dirty = True
            self.reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            logger.warning("tracking is incomplete (%s); the run goes on, its records are whole", self.reason)
