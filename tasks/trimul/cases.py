"""The shapes of each split, and inputs of a shape.

Invariants: no two splits share a timed shape; equal seeds give equal inputs, and weights are drawn anew with them, so
that nothing learnt in one call helps in the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sia_flow.lineage.records import Split
from sia_flow.protocols import ArraySpec, CallForm

Distribution = Literal["normal", "cauchy"]


@dataclass(frozen=True, slots=True)
class Case:
    """One shape of the problem."""

    n: int
    """Side of the square of pairs."""
    batch: int
    channels: int
    hidden: int
    masked: bool = False
    distribution: Distribution = "normal"

    @property
    def name(self) -> str:
        """Short name, as metrics carry it."""
        marks = f"{'m' if self.masked else ''}{'c' if self.distribution == 'cauchy' else ''}"
        return f"{self.batch}x{self.n}x{self.channels}x{self.hidden}{marks}"

    def form(self) -> CallForm:
        """Return the form of a call: every array is float32."""
        arrays = {name: ArraySpec(shape, "float32") for name, shape in self.shapes().items()}
        return CallForm(arrays, ArraySpec(self.shapes()["x"], "float32"))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array of `data`, by name."""
        b, n, c, h = self.batch, self.n, self.channels, self.hidden
        return {
            "x": (b, n, n, c),
            "mask": (b, n, n),
            "norm_w": (c,),
            "norm_b": (c,),
            "left": (h, c),
            "left_gate": (h, c),
            "right": (h, c),
            "right_gate": (h, c),
            "out_gate": (h, c),
            "out_norm_w": (h,),
            "out_norm_b": (h,),
            "out": (c, h),
        }


CHECKS = (
    Case(8, 1, 8, 4, masked=True),
    Case(17, 2, 12, 8, masked=True, distribution="cauchy"),
    Case(24, 1, 16, 12),
)
"""Small shapes on which a program must be right before it is timed."""

TIMED: Mapping[Split, tuple[Case, ...]] = {
    "train": (
        Case(88, 1, 16, 8, masked=True),
        Case(104, 1, 8, 4, distribution="cauchy"),
        Case(96, 1, 16, 4),
        Case(72, 2, 8, 4, masked=True, distribution="cauchy"),
    ),
    "select": (
        Case(84, 1, 16, 8, distribution="cauchy"),
        Case(108, 1, 8, 4, masked=True),
        Case(100, 1, 16, 4, masked=True),
        Case(76, 2, 8, 4),
    ),
    "sealed": (
        Case(90, 1, 16, 8, masked=True),
        Case(112, 1, 8, 4, distribution="cauchy"),
        Case(98, 1, 16, 4, distribution="cauchy"),
        Case(74, 2, 8, 4, masked=True),
    ),
}
"""What is timed in each split."""


def draw(case: Case, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw the arrays of a case: a mask with four in five pairs set, weights of variance one over what they sum."""
    random = np.random.default_rng(seed)
    found = {name: _draw(random, case, name, shape) for name, shape in case.shapes().items()}
    return {name: array.astype(np.float32) for name, array in found.items()}


def _draw(random: np.random.Generator, case: Case, name: str, shape: tuple[int, ...]) -> Any:
    if name == "x":
        return random.standard_cauchy(shape) if case.distribution == "cauchy" else random.standard_normal(shape)
    if name == "mask":
        return (random.random(shape) < 0.8) if case.masked else np.ones(shape)
    if len(shape) == 1:
        return 0.1 * random.standard_normal(shape) + (1.0 if name.endswith("_w") else 0.0)
    return random.standard_normal(shape) / np.sqrt(shape[1])
