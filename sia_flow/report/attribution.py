"""What each lever is worth: Shapley values of scaffold and weights on the 2x2 of first and best, and their interaction.

Invariant: the two values add up to the whole gain, of each seed and of their mean. With two players the Shapley value
is the mean of a lever's gain alone and of its gain on top of the other (Shapley, A Value for n-Person Games, 1953).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sia_flow.lineage.records import Score
from sia_flow.lineage.results import ArmResult
from sia_flow.report.comparison import redraws, t_interval

Part = Literal["scaffold", "weights", "interaction"]
CONTRASTS: Mapping[Part, Mapping[tuple[str, str], float]] = {
    "scaffold": {("first", "base"): -0.5, ("best", "base"): 0.5, ("first", "best"): -0.5, ("best", "best"): 0.5},
    "weights": {("first", "base"): -0.5, ("best", "base"): -0.5, ("first", "best"): 0.5, ("best", "best"): 0.5},
    "interaction": {("first", "base"): 1.0, ("best", "base"): -1.0, ("first", "best"): -1.0, ("best", "best"): 1.0},
}
"""Weight of each cell (scaffold, weights)."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a lever, or the interaction of both, adds to the mean reward on select."""

    part: Part
    value: float
    low: float
    high: float
    seeds: int
    method: Literal["t over seeds", "bootstrap over rollouts"]


def attribution(results: Sequence[ArmResult], arm: str = "SIA-W+H", level: float = 0.95) -> tuple[Share, ...]:
    """Return the shares of scaffold, weights and their interaction; none where no seed has all four cells.

    The interval is Student's over seeds where there are three or more, else a bootstrap over the rollouts.
    """
    grids = [grid for result in results if result.arm == arm and len(grid := _grid(result)) == 4]
    return tuple(_share(part, grids, level) for part in CONTRASTS) if grids else ()


def _grid(result: ArmResult) -> dict[tuple[str, str], Score]:
    return {(cell.scaffold, cell.weights): cell.score for cell in result.factorial}


def _share(part: Part, grids: Sequence[Mapping[tuple[str, str], Score]], level: float) -> Share:
    weights = CONTRASTS[part]
    values = np.array([sum(weights[cell] * grid[cell].mean for cell in weights) for grid in grids])
    if len(grids) >= 3:
        low, high = t_interval(values, level)
        return Share(part, float(values.mean()), low, high, len(grids), "t over seeds")
    drawn: NDArray[np.float64] = np.zeros(1)
    for number, grid in enumerate(grids):
        draws = redraws([grid[cell] for cell in weights], "attribution", part, number)
        drawn = drawn + sum(weight * draw for weight, draw in zip(weights.values(), draws, strict=True))
    low, high = np.quantile(drawn / len(grids), [0.5 - level / 2, 0.5 + level / 2])
    return Share(part, float(values.mean()), float(low), float(high), len(grids), "bootstrap over rollouts")
