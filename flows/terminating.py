"""SIGTERM, by which Prefect's workers cancel, as the polite request that Ctrl-C is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sia_flow.loop.stopping import Stop


@contextmanager
def terminates(stop: Stop) -> Iterator[None]:
    """Let SIGTERM, by which a worker cancels, ask for a stop; a flow of Prefect would end in the middle of a step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda _signal, _frame: stop.ask())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
