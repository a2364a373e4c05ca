"""What one rollout takes, by what it is for: as this project's own generations took, or as denoise took here.

Invariant: a rate is read off generations of the same base, data and verifier; with fewer than `LEAST` of them it is the
figure for the embedded denoise, which says nothing of another task or machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sia_flow.lineage.records import Generation
from sia_flow.lineage.store import Store

LEAST = 4
"""Generations of a kind that have to be there before they are believed."""
TAILS = (0.1, 0.9)


class Range(NamedTuple):
    """A low and a high estimate."""

    low: float
    high: float

    def __add__(self, other: tuple[float, ...]) -> Range:  # type: ignore[override]  # sums, does not concatenate
        """Return the sum of two ranges."""
        return Range(self.low + other[0], self.high + other[1])

    def times(self, other: Range) -> Range:
        """Return the product of two ranges of figures that are not negative."""
        return Range(self.low * other.low, self.high * other.high)


class Rate(NamedTuple):
    """What a rollout with its verification takes: the first and the last decile over generations."""

    tokens: Range
    """Prompt and completion."""
    seconds: Range
    """By the clock."""


class Rates(NamedTuple):
    """Rates by what a rollout is for."""

    trial: Rate
    """Generations of the harness lever, whose scaffolds come to sample several candidates and score each of them."""
    update: Rate
    """Generations of the weight lever: nearly all of their rollouts are its iterations'."""


DENOISE = Rates(
    Rate(Range(14, 191), Range(0.026, 0.257)),
    Rate(Range(15, 23), Range(0.012, 0.046)),
)
"""Deciles over 162 generations of the harness lever and 56 of the weight lever, `specs/denoise.yaml`, two arms at
once on 2 cores that others used too."""


def rates_of(store: Store, inputs: Mapping[str, str]) -> Rates:
    """Return the rates of experiments with these inputs (`Lab.inputs`)."""
    alike = [
        generation
        for generation in store.generations()
        if (generation.base, generation.data, generation.verifier)
        == (inputs["base"], inputs["data"], inputs["verifier"])
    ]
    if len(alike) < LEAST:
        return DENOISE
    timed = {entry["key"]: float(entry["seconds"]) for entry in store.journal() if "seconds" in entry}
    harness = [found for found in alike if found.decision is None or found.decision.lever == "harness"]
    weights = [found for found in alike if found.decision is not None and found.decision.lever != "harness"]
    return Rates(_rate(harness, timed) or DENOISE.trial, _rate(weights, timed) or DENOISE.update)


def _rate(generations: Sequence[Generation], timed: Mapping[str, float]) -> Rate | None:
    rows = [
        (spend.prompt_tokens + spend.completion_tokens, sum(timed[key] for key in keys), spend.rollouts)
        for found in generations
        if (spend := found.spend).rollouts and (keys := set(found.steps.values())) <= timed.keys()
    ]
    if len(rows) < LEAST:
        return None
    figures = np.asarray(rows, dtype=float)
    tokens, seconds = np.quantile(figures[:, :2] / figures[:, 2:], TAILS, axis=0).T
    return Rate(Range(*map(float, tokens)), Range(*map(float, seconds)))
