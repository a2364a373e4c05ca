"""What a check found: one line a finding, with a code that a machine can read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    """`manifest`, `description`, `scaffold`, `data`, `splits`, `leak`, `determinism`, `noise`, `probes`, `foreign`."""
    level: Level
    code: str
    """`ok`, or what was found."""
    message: str
    """What was found, where, and what to do about it."""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)


def admitted(findings: Iterable[Finding]) -> bool:
    """Return whether nothing failed."""
    return all(finding.level != "fail" for finding in findings)


def ok(check: str, message: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(check, "ok", "ok", message)
