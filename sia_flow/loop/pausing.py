"""How a run shows that it waits for a person, beside the terminal: an engine may pause what it shows of the arm.

Invariant: showing never answers; who pauses says whether someone let the run go on there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Resumed = Callable[[], bool]
"""Says whether someone has let the run go on, in the engine's own pages."""
Pause = Callable[[str], AbstractContextManager[Resumed]]
"""Shows a text for as long as the block lasts."""


@contextmanager
def unpaused(_text: str) -> Iterator[Resumed]:
    """Show nothing: there is no engine."""
    yield lambda: False
