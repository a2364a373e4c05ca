"""Training steps on their way to MLflow: gathered, and written a batch at a time.

Invariant: `add` touches neither disk nor network unless a batch is due, so a training loop may call it
every step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from sia_flow.track.entries import Point, step_points

Write = Callable[[str, Sequence[Point]], None]


class LiveBuffer:
    """Points by run, written by `write(run_key, points)` when `seconds` have passed or `size` points wait."""

    def __init__(self, write: Write, seconds: float = 2.0, size: int = 300) -> None:
        self._write = write
        self._seconds = seconds
        self._size = size
        self._waiting: dict[str, list[Point]] = {}
        self._last = time.monotonic() - seconds
        self._lock = threading.Lock()

    def add(self, run_key: str, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step."""
        with self._lock:
            points = self._waiting.setdefault(run_key, [])
            points.extend(step_points(step, metrics))
            due = len(points) >= self._size or time.monotonic() - self._last >= self._seconds
        if due:
            self.flush()

    def flush(self) -> None:
        """Write everything that waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._last = time.monotonic()
        for run_key, points in waiting.items():
            self._write(run_key, points)
