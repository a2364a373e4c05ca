"""How a candidate breaks its contract, as the host is told."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - a verdict on the candidate, not a fault
    """The candidate broke its contract."""

    def __init__(self, status: str, error: str) -> None:
        super().__init__(error)
        self.status = status
