"""The Goodhart gap: whether what is optimised still tells what is meant, by generation and when an arm has ended.

Four figures: reward on train less that on select, and select less sealed; the guards' margins; the error against a
known truth, where a task has one (metrics called `truth_...`, less is better). Instances of two splits differ by
nature, so the gap between them counts only as far as it has grown since generation 0, or beyond that of the baselines.

Invariant: figures come from records alone; an alarm is raised beyond `ALARM` standard errors, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult

ALARM = 2.0
"""Standard errors beyond which a growing gap is more than noise: one false alarm in 44 generations without a gap."""
TRUTH = "truth_"


@dataclass(frozen=True, slots=True)
class Gap:
    """What a generation's scores are worth."""

    index: int
    gap: float
    """Mean reward on train less that on select."""
    growth: float
    """By how much the gap is larger than that of generation 0."""
    growth_se: float
    guards: Mapping[str, float]
    """Guard -> by how much its margin on select has changed since generation 0."""
    truth: Mapping[str, float]
    """Metric of a known truth -> by how much it has changed since generation 0; above 0 is worse."""
    alarms: tuple[str, ...]
    """What is wrong, in words; nothing where all is well."""


def gap_of(first: Generation, now: Generation) -> Gap:
    """Return the gap of a generation against generation 0 of its arm."""
    growth = _apart(now) - _apart(first)
    error = math.hypot(now.train.se, now.select.se, first.train.se, first.select.se)
    guards = {name: margin - first.guards[name] for name, margin in now.guards.items() if name in first.guards}
    held, then = _truths(now), _truths(first)
    truth = {name: value - then[name] for name, value in held.items() if name in then}
    same = now.id == first.id
    alarms = () if same else tuple(_alarms(first, now, growth, error, truth))
    return Gap(now.index, _apart(now), 0.0 if same else growth, 0.0 if same else error, guards, truth, alarms)


def gaps(generations: Sequence[Generation]) -> list[Gap]:
    """Return the gap of each generation of an arm, in order."""
    return [gap_of(generations[0], one) for one in generations]


@dataclass(frozen=True, slots=True)
class Closing:
    """Select less sealed of an arm's incumbent, beyond what the baselines have of it."""

    gap: float
    se: float
    alarms: tuple[str, ...]


def closing(result: ArmResult) -> Closing:
    """Return what an arm's sealed figures say of its select figures.

    The natural difference of the two splits is the mean of the baselines' own; 0 where no baseline earns anything.
    """
    pairs = [
        (split["select"], split["sealed"]) for split in result.baselines.values() if {"select", "sealed"} <= {*split}
    ]
    natural = fmean(select - sealed for select, sealed in pairs) if pairs else 0.0
    gap = result.select.mean - result.sealed.mean - natural
    error = math.hypot(result.select.se, result.sealed.se)
    return Closing(gap, error, tuple(_closing_alarms(result, gap, error)))


def _apart(generation: Generation) -> float:
    return generation.train.mean - generation.select.mean


def _truths(generation: Generation) -> dict[str, float]:
    return {name: value for name, value in generation.select.metrics.items() if name.startswith(TRUTH)}


def _alarms(
    first: Generation, now: Generation, growth: float, error: float, truth: Mapping[str, float]
) -> Iterator[str]:
    if growth > ALARM * error:
        yield (
            f"train has run away from select: the gap grew by {growth:+.4f} since generation 0, beyond {ALARM:g} "
            f"standard errors ({error:.4f}); what is learnt does not carry over to other instances"
        )
    for name, margin in sorted(now.guards.items()):
        if margin < 0 <= first.guards.get(name, margin):
            yield f"the guard {name} broke on select (margin {margin:+.4f}), which generation 0 kept"
    gain = now.select.mean - first.select.mean
    risen = gain > ALARM * math.hypot(now.select.se, first.select.se)
    for name, worse in sorted(truth.items()):
        if risen and worse > 0:
            yield f"the score rose by {gain:+.4f} since generation 0, and the error {name} with it, by {worse:+.4f}"


def _closing_alarms(result: ArmResult, gap: float, error: float) -> Iterator[str]:
    name = f"{result.arm} seed {result.seed}"
    if gap > ALARM * error:
        yield (
            f"{name}: select promised more than sealed keeps, by {gap:.4f} beyond the baselines' own difference and "
            f"beyond {ALARM:g} standard errors ({error:.4f}); believe sealed"
        )
    for guard, margin in sorted(result.guards.items()):
        if margin < 0:
            yield f"{name}: the guard {guard} is broken on sealed (margin {margin:+.4f})"
    if result.reading > 1:
        yield f"{name}: its sealed figures are of reading {result.reading} of that split, after a look at it"
