"""Instances, verdicts and what timed tasks speak of, as plain values and back.

Invariant: of an instance only what candidates may see leaves the verifier's process; a number comes back as the very
same one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, cast

from numpy.typing import NDArray

from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import ArraySpec, CallForm, Instance
from sia_flow.verify.timed import Fault, TimedCase, TimedPlan, Timing


@dataclass(frozen=True, slots=True)
class Drawn:
    """How an instance was made, by which any process of the same verifier makes it again."""

    split: Split
    count: int
    seed: int
    index: int
    twins: int = 0
    """How often `visible` was asked for."""


@dataclass(frozen=True, slots=True)
class DrawnInstance(Instance):
    """An instance whose private part is elsewhere."""

    drawn: Drawn = field(kw_only=True)


def drawn_to(drawn: Drawn) -> list[Any]:
    """Return how an instance was made as a plain value."""
    return list(astuple(drawn))


def drawn_from(value: Sequence[Any]) -> Drawn:
    """Return how an instance was made."""
    split, count, seed, index, twins = value
    return Drawn(cast("Split", split), int(count), int(seed), int(index), int(twins))


def instance_to(instance: Instance) -> dict[str, Any]:
    """Return an instance's public part but for its arrays."""
    return {
        "id": instance.id,
        "split": instance.split,
        "public": dict(instance.public),
        "returns": spec_to(instance.returns),
        "names": list(instance.arrays),
    }


def instance_from(value: Mapping[str, Any], arrays: Sequence[NDArray[Any]], drawn: Drawn) -> DrawnInstance:
    """Return an instance with its arrays, which nobody may write to."""
    for array in arrays:
        array.flags.writeable = False
    named = dict(zip(value["names"], arrays, strict=True))
    returns = spec_from(value["returns"])
    return DrawnInstance(str(value["id"]), value["split"], value["public"], named, returns, drawn=drawn)


def verdict_to(verdict: object) -> dict[str, Any]:
    """Return a verdict as a plain value. Raises TypeError for what is none."""
    if not isinstance(verdict, Verdict):
        raise TypeError(f"the verifier returned {type(verdict).__name__}, no Verdict")
    metrics = {name: number_to(value) for name, value in verdict.metrics.items()}
    return {**verdict.model_dump(), "reward": number_to(verdict.reward), "metrics": metrics}


def verdict_from(value: Mapping[str, Any]) -> Verdict:
    """Return the verdict of a plain value."""
    metrics = {name: number_from(number) for name, number in value["metrics"].items()}
    return Verdict.model_validate({**value, "reward": number_from(value["reward"]), "metrics": metrics})


def number_to(value: float) -> float | str:
    """Return a number as JSON has it; what is not finite as a word."""
    found = float(value)
    return found if math.isfinite(found) else repr(found)


def number_from(value: float | str) -> float:
    """Return the number of a JSON value."""
    return float(value)


def spec_to(spec: ArraySpec) -> list[Any]:
    """Return the form of an array as a plain value."""
    return [list(spec.shape), spec.dtype]


def spec_from(value: Sequence[Any]) -> ArraySpec:
    """Return the form of an array."""
    shape, dtype = value
    return ArraySpec(tuple(int(size) for size in shape), str(dtype))


def case_to(case: TimedCase) -> dict[str, Any]:
    """Return a case of a timed task as a plain value."""
    arrays = {name: spec_to(spec) for name, spec in case.form.arrays.items()}
    return {"name": case.name, "inputs": arrays, "returns": spec_to(case.form.returns)}


def case_from(value: Mapping[str, Any]) -> TimedCase:
    """Return a case of a timed task."""
    arrays = {name: spec_from(spec) for name, spec in value["inputs"].items()}
    return TimedCase(str(value["name"]), CallForm(arrays, spec_from(value["returns"])))


def plan_to(plan: TimedPlan) -> dict[str, Any]:
    """Return a plan as a plain value."""
    return {
        "checks": [case_to(case) for case in plan.checks],
        "timed": [case_to(case) for case in plan.timed],
        "repeats": plan.repeats,
        "sessions": plan.sessions,
    }


def plan_from(value: Mapping[str, Any]) -> TimedPlan:
    """Return a plan."""
    checks, timed = (tuple(case_from(case) for case in value[name]) for name in ("checks", "timed"))
    return TimedPlan(checks, timed, int(value["repeats"]), int(value["sessions"]))


def fault_to(fault: Fault | None) -> list[str] | None:
    """Return a fault as a plain value."""
    return None if fault is None else [fault.reason, fault.feedback]


def fault_from(value: Sequence[str] | None) -> Fault | None:
    """Return a fault."""
    return None if value is None else Fault(str(value[0]), str(value[1]))


def timing_to(timing: Timing) -> list[Any]:
    """Return a timing as a plain value."""
    return [timing.case, number_to(timing.seconds), number_to(timing.speedup)]


def timing_from(value: Sequence[Any]) -> Timing:
    """Return a timing."""
    return Timing(str(value[0]), number_from(value[1]), number_from(value[2]))
