"""The records of a run whose folder ends with it, as a pod's: taken at its start, brought meanwhile and at its end.

Invariant: when a run is over, its records are at the place that the spec names, or the run fails and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sia_flow.errors import InfrastructureError, SiaFlowError
from sia_flow.lineage.mirror import pull, push

EVERY_SECONDS = 120.0
"""How much of a run whose machine vanishes is lost, at most."""
_WAITS = (2.0, 10.0, 30.0)
"""Seconds before the last push is tried again."""


@contextmanager
def carried(state: Path, url: str | None, say: Callable[[str], None], every: float = EVERY_SECONDS) -> Iterator[None]:
    """Bring the records of `url` here, run the block, and bring its own there; do nothing without a `url`.

    `state` is the project's state folder. A push in the middle that fails is said, and the next one takes its files
    along. Raises InfrastructureError where the place does not answer, StoreError where what it holds is damaged.
    """
    if url is None:
        yield
        return
    # The first run finds nothing there, not even the format; with this there is.
    push(state, url)
    found = pull(state, url)
    say(f"{found.files} files of records came from {url}")
    over = threading.Event()
    meanwhile = threading.Thread(target=_push_often, args=(state, url, say, every, over), name="push", daemon=True)
    meanwhile.start()
    try:
        yield
    finally:
        over.set()
        meanwhile.join()
        _push_for_good(state, url, say)


def _push_often(state: Path, url: str, say: Callable[[str], None], every: float, over: threading.Event) -> None:
    while not over.wait(every):
        try:
            push(state, url)
        except SiaFlowError as error:
            say(f"records were not brought to {url}, which is tried again: {error}")


def _push_for_good(state: Path, url: str, say: Callable[[str], None]) -> None:
    for wait in (*_WAITS, None):
        try:
            done = push(state, url)
        except InfrastructureError:
            if wait is None:
                raise
            time.sleep(wait)
        else:
            say(f"{done.files} files of records went to {url}")
            for run in done.differing:
                say(f"{run} went on in two ways; each side keeps its own, and the records of both are there")
            return
