"""Reasons of a verdict that the verifier could not give; the answer counts as invalid.

Invariant: none of them is told more of to an agent than this, for what a verifier says when it breaks may hold what it
must not tell.
"""

from __future__ import annotations

TIMEOUT, CRASH, MEMORY, ERROR = "verifier_timeout", "verifier_crash", "verifier_memory", "verifier_error"
FAULTS = (TIMEOUT, CRASH, MEMORY, ERROR)
SAID = "the verifier could not judge this answer, so it counts as invalid"


class BrokenRequest(Exception):  # noqa: N818 - what happened to one request; the client makes something of it
    """A request that got no answer."""

    def __init__(self, reason: str, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        self.kind = kind
        """Name of the exception that the verifier raised."""

    @property
    def said(self) -> str:
        """The exception's own words, without its name and where it was raised."""
        return str(self).partition(": ")[2].rpartition(" (")[0]
