"""Who starts workers: this machine's processes, a Dask cluster, a Ray cluster. What a worker does is the same.

Invariant: a launcher starts and ends processes and knows nothing of arms and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sia_flow.spread.ticket import Ticket


class Ended(NamedTuple):
    """A worker whose process is over."""

    name: str
    text: str
    """What it said last, for a person; empty where it said nothing."""


class Launcher(Protocol):
    """Starts workers."""

    @property
    def host(self) -> str | None:
        """Under which name workers reach this machine; None where they are on it."""

    @property
    def seats(self) -> int:
        """How many workers run at once, where the spec does not say."""

    def launch(self, ticket: Ticket) -> None:
        """Start a worker. Raises InfrastructureError."""

    def ended(self) -> Sequence[Ended]:
        """Return the workers whose process ended since the last call. Raises InfrastructureError."""

    def close(self) -> None:
        """End every worker that is left."""
