"""What is on offer among workers: batches whose parts anybody may take who has nothing else to do.

Invariant: an offer that somebody found no free part of is handed out no more; what it is made of is between the workers
(`sia_flow.loop.parts`). Where helping kills whoever does it, nobody is sent any more, and the owners do all themselves.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Owner = TypeVar("Owner")
DEATHS = 3
"""How many workers may die while they help."""


class Offers(Generic[Owner]):
    """The open offers, by their folders, the oldest first."""

    def __init__(self) -> None:
        self._open: dict[str, Owner] = {}
        self._deaths = 0

    @property
    def stopped(self) -> bool:
        """Whether nobody is to help any more."""
        return self._deaths >= DEATHS

    def add(self, folder: str, owner: Owner) -> None:
        """Open an offer."""
        self._open[folder] = owner

    def next(self) -> str | None:
        """Return the oldest offer, None where there is none."""
        return None if self.stopped else next(iter(self._open), None)

    def over(self, folder: str) -> None:
        """Close an offer: its parts are taken."""
        self._open.pop(folder, None)

    def died(self) -> None:
        """Take in that a worker died while it helped."""
        self._deaths += 1

    def gone(self, owner: Owner) -> None:
        """Close all offers of a worker that is gone."""
        self._open = {folder: one for folder, one in self._open.items() if one is not owner}
