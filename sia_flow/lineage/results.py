"""What an arm came to: its generations, its incumbent, the sealed score, the best program, what each lever is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from sia_flow.lineage.records import Record, Score, Spend


class BestProgram(Record):
    """The best program that the arm's search found on train, then measured once on the other splits."""

    answer: str
    """Object id of its text."""
    train: float
    """Mean reward over the train instances, the figure that it was chosen by."""
    select: Score
    sealed: Score


class Cell(Record):
    """One cell of the 2x2 of {first, best scaffold} x {base, best adapter}, on select."""

    scaffold: Literal["first", "best"]
    weights: Literal["base", "best"]
    score: Score


class ArmResult(Record):
    """The end of one arm and seed."""

    kind: Literal["sia-flow/arm@1"] = "sia-flow/arm@1"
    key: str
    experiment: str
    arm: str
    seed: int
    control: str | None = None
    generations: tuple[str, ...]
    """Generation ids in order; the first one is shared by all arms of a seed."""
    incumbent: str
    stopped: str
    """Why it ended: `budget.generations`, `budget.wall`, `stop`, ..."""
    select: Score
    sealed: Score
    guards: Mapping[str, float] = Field(default_factory=dict)
    """Guard margins of the incumbent on sealed."""
    best: BestProgram | None = None
    baselines: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    """Baseline name -> split -> mean reward."""
    factorial: tuple[Cell, ...] = ()
    spend: Spend = Spend()
    reading: int = Field(default=1, exclude_if=lambda number: number == 1)
    """Which reading of the sealed split the sealed figures are of; from the second on they are held out no more."""
