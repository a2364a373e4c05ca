"""Arms: which levers may be pulled, and the short names of the usual ones.

Invariant: a short name always means the same levers, so that results of two specs under one name compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, Strict, field_validator, model_validator
from pydantic_core import CoreSchema

from sia_flow.spec.base import Issue, Label, Lever, Section, repeated, rule_error
from sia_flow.spec.suggest import did_you_mean

Control = Literal["best-of-n", "no-feedback", "unaided"]
IDLE = ("best-of-n", "unaided")
"""Controls that pull no lever."""
Until = Literal["budget", "dearest"]

SHORT_ARMS: Mapping[str, Mapping[str, Any]] = {
    "SIA-H": {"levers": ("harness",)},
    "SIA-W": {"levers": ("weights",)},
    "SIA-W+H": {"levers": ("harness", "weights")},
    "best-of-n": {"control": "best-of-n"},
    "no-feedback": {"levers": ("harness",), "control": "no-feedback"},
    "SIA-H-equal": {"levers": ("harness",), "spend": "dearest"},
    "SIA-W-equal": {"levers": ("weights",), "spend": "dearest"},
    "no-feedback-equal": {"levers": ("harness",), "control": "no-feedback", "spend": "dearest"},
    "unaided": {"control": "unaided"},
}


class Arm(Section):
    """One way to improve, run once for each seed. A short name alone (`SIA-H`) stands for a whole arm."""

    name: Label
    """Name of the arm in tables and folders."""
    levers: Annotated[tuple[Lever, ...], Strict(strict=False)] = ()
    """What the Feedback-Agent may change: the scaffold (`harness`), the LoRA adapter (`weights`), or both."""
    control: Control | None = None
    """Makes the arm a control: `best-of-n` only samples, for as much as the dearest arm spent; `no-feedback` edits
    blindly; `unaided` is the Feedback-Agent's model working on the task alone, once."""
    # Left out where it is the default, so that arms from before it was there keep their digests.
    spend: Until = Field(default="budget", exclude_if=lambda spend: spend == "budget")
    """`budget`: ends with the budget, as every arm. `dearest`: runs after those, for as many generations as it takes to
    spend as much as the dearest of them in rollouts, in tokens, and in dollars where the policy has a price."""

    @property
    def turn(self) -> int:
        """When it runs: arms with a budget of their own first, plain sampling last."""
        return 2 if self.control == "best-of-n" else int(self.spend == "dearest")

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Turn a short name into the arm that it stands for."""
        if not isinstance(value, str):
            return value
        if value not in SHORT_ARMS:
            hint = did_you_mean(value, SHORT_ARMS)
            raise ValueError(
                f'unknown arm "{value}";{hint} Short names: {", ".join(SHORT_ARMS)}; '
                "any other arm is written as {name: ..., levers: [...]}"
            )
        return {"name": value, **SHORT_ARMS[value]}

    @field_validator("levers")
    @classmethod
    def _order(cls, levers: tuple[Lever, ...]) -> tuple[Lever, ...]:
        """Sort the levers: the order in which a user lists them means nothing."""
        if repeated(levers):
            raise ValueError("names a lever twice; name each once")
        return tuple(sorted(levers))

    @model_validator(mode="after")
    def _rules(self) -> Arm:
        issues = [Issue((), message) for message in _broken(self)]
        if issues:
            raise rule_error(issues)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Accept a short name wherever an arm may stand."""
        short = {"enum": list(SHORT_ARMS), "description": "Short name of a usual arm."}
        return {"anyOf": [short, handler(core_schema)]}


def run_order(arms: Iterable[Arm]) -> list[Arm]:
    """Return the arms as they run: those that spend as much as the dearest one come after it."""
    return sorted(arms, key=lambda arm: arm.turn)


def _broken(arm: Arm) -> list[str]:
    """Return what is wrong between the fields of an arm, in words that say what to do."""
    found = []
    if not arm.levers and arm.control not in IDLE:
        found.append("the arm pulls no lever: add levers (harness, weights), or control: best-of-n to sample only")
    if arm.levers and arm.control in IDLE:
        does = "only samples" if arm.control == "best-of-n" else "works on the task alone"
        found.append(f"{arm.control} {does}: drop levers, or drop control")
    if arm.spend == "dearest" and arm.control in IDLE:
        other = "spends as much as the dearest arm in any case" if arm.control == "best-of-n" else "works once"
        found.append(f"{arm.control} {other}: drop spend")
    usual = SHORT_ARMS.get(arm.name)
    if usual and (arm.levers, arm.control, arm.spend) != _meaning(usual):
        found.append(f'"{arm.name}" is the short name of another arm: choose a name of your own')
    return found


def _meaning(usual: Mapping[str, Any]) -> tuple[tuple[Lever, ...], Control | None, Until]:
    return usual.get("levers", ()), usual.get("control"), usual.get("spend", "budget")
