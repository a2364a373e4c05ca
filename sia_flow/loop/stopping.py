"""A polite stop: asked for at any time, obeyed where nothing is lost."""

from __future__ import annotations

import threading

from sia_flow.errors import Interrupted


class Stop:
    """A flag that the user raises; the loop looks at it between steps and between training iterations."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask the run to stop at the next safe point."""
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether the user has asked."""
        return self._asked.is_set()

    def obey(self) -> None:
        """Raise Interrupted if the user has asked."""
        if self.asked:
            raise Interrupted("stopped; everything up to here is stored: the same command again goes on from here")
