"""A tracker that costs the loop nothing: views are queued, and one thread of its own shows them in order.

Invariant: views reach the tracker in the order in which they were given; `close` returns when the last one has.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from sia_flow.track.views import ArmView, FinalView, GenerationView, Halt, Tracker


class BackgroundTracker:
    """Wraps a tracker that never raises, such as `SafeTracker`."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon, so that a second Ctrl-C does not wait for MLflow: what is lost is a view of stored records.
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def arm(self, view: ArmView) -> None:
        """Queue an arm that has begun."""
        self._queue.put(lambda: self._tracker.arm(view))

    def generation(self, view: GenerationView) -> None:
        """Queue a finished generation."""
        self._queue.put(lambda: self._tracker.generation(view))

    def live(self, arm: ArmView, generation: int, step: int, metrics: Mapping[str, float]) -> None:
        """Queue a training step."""
        self._queue.put(lambda: self._tracker.live(arm, generation, step, metrics))

    def final(self, view: FinalView) -> None:
        """Queue the end of an arm."""
        self._queue.put(lambda: self._tracker.final(view))

    def halt(self, arm: ArmView, status: Halt) -> None:
        """Queue that an arm was left unfinished."""
        self._queue.put(lambda: self._tracker.halt(arm, status))

    def page(self, path: Path) -> None:
        """Queue a report of the whole experiment."""
        self._queue.put(lambda: self._tracker.page(path))

    def close(self) -> None:
        """Wait until everything that was given is shown."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            call()
