"""The background tracker: order kept, nothing lost at close, the caller never waits."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sia_flow.track.background import BackgroundTracker
from sia_flow.track.views import ArmView, FinalView, GenerationView

ARM = ArmView("denoise", "run", "SIA-H", 0)


class Slow:
    """Shows nothing before it is let go, and remembers the order and the thread."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.seen: list[int] = []
        self.threads: set[int] = set()

    def arm(self, view: ArmView) -> None:
        raise AssertionError(view)

    def generation(self, view: GenerationView) -> None:
        raise AssertionError(view)

    def live(self, arm: ArmView, generation: int, step: int, metrics: Mapping[str, float]) -> None:
        assert self.go.wait(10)
        assert (arm, generation, dict(metrics)) == (ARM, 1, {"x": float(step)})
        self.seen.append(step)
        self.threads.add(threading.get_ident())

    def final(self, view: FinalView) -> None:
        raise AssertionError(view)


def test_views_are_shown_in_order_by_a_thread_of_its_own() -> None:
    slow = Slow()
    tracker = BackgroundTracker(slow)
    for step in range(50):
        tracker.live(ARM, 1, step, {"x": float(step)})
    assert slow.seen == []
    slow.go.set()
    tracker.close()
    assert slow.seen == list(range(50))
    assert slow.threads.isdisjoint({threading.get_ident()})
