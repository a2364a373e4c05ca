"""Which errors keep their kind on their way between host and verifier: our own, whose text was written to be read."""

from __future__ import annotations

from sia_flow.errors import InfrastructureError, IsolationError, SiaFlowError, SpecError, StoreError, TaskError

_OWN: tuple[type[SiaFlowError], ...] = (
    InfrastructureError,
    IsolationError,
    StoreError,
    TaskError,
    SpecError,
    SiaFlowError,
)
"""The narrowest first."""


def own_kind(error: Exception) -> str | None:
    """Return the name of the kind that an error is raised as on the other side; None for a stranger."""
    return next((kind.__name__ for kind in _OWN if isinstance(error, kind)), None)


def own_error(kind: str, text: str, reason: str = "") -> SiaFlowError:
    """Return the error of a kind's name, with the reason code that it had."""
    found = next((one for one in _OWN if one.__name__ == kind), SiaFlowError)(text)
    if reason:
        found.reason = reason  # type: ignore[attr-defined]
    return found
