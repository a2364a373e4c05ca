"""Approval gates: which pulls wait for a person's yes.

Invariant: a gate decides whether a step is run, never what it computes, so that it is in no key of any record.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator

from sia_flow.spec.base import Lever, Section, repeated
from sia_flow.spec.units import Duration, Money


class Approve(Section):
    """What a person is asked before it is done: every pull, unless levers or an amount say which. Changes no record."""

    above_usd: Money | None = Field(default=None, examples=["$5"])
    """Ask before each pull after which an arm's spend would pass this amount. Not set: money asks nothing."""
    levers: Annotated[tuple[Lever, ...], Strict(strict=False), Field(examples=[["weights"]])] = ()
    """Ask before each pull of these levers. Empty: none for its lever alone."""
    timeout: Duration | None = Field(default=None, examples=["12h"])
    """How long to wait for an answer, in seconds or with a unit. Not set: for ever."""
    otherwise: Literal["stop", "go"] = "stop"
    """What is done when nobody has answered in time: end the arm (`stop`), or pull (`go`)."""

    @field_validator("above_usd")
    @classmethod
    def _amount(cls, usd: float | str | None) -> float | str | None:
        if usd == "unlimited":
            raise ValueError("no spend passes unlimited: write an amount such as $5, or drop above_usd")
        return usd

    @field_validator("levers")
    @classmethod
    def _order(cls, levers: tuple[Lever, ...]) -> tuple[Lever, ...]:
        """Sort the levers: the order in which a user lists them means nothing."""
        if repeated(levers):
            raise ValueError("names a lever twice; name each once")
        return tuple(sorted(levers))

    def reasons(self, levers: tuple[Lever, ...], usd: float) -> list[str]:
        """Return why a pull of these levers, after which an arm has spent so much, needs a yes; empty where not."""
        if self.above_usd is None and not self.levers:
            return ["every pull"]
        found = [f"the {lever} lever" for lever in levers if lever in self.levers]
        if isinstance(self.above_usd, float) and usd > self.above_usd:
            found.append(f"${usd:.2f} spent or forecast, above ${self.above_usd:.2f}")
        return found
