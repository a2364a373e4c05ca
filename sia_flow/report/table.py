"""The closing table: initial agent, arms, controls and published baselines, each with its error.

Pure: records in, rows out. Invariant: an error is the standard error over seeds where there are two or
more, else over the rollouts of the one seed; what was not measured is shown as a dash, never as a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

from sia_flow.lineage.records import Score
from sia_flow.lineage.results import ArmResult

DASH = "-"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, none where it is not known."""

    mean: float
    se: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.se is None else f"{self.mean:.4f} ± {self.se:.4f}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the closing table."""

    label: str
    kind: Literal["initial", "arm", "control", "baseline"]
    select: Estimate | None = None
    sealed: Estimate | None = None
    best_select: Estimate | None = None
    """The best program that the search found, measured once on select."""
    best_sealed: Estimate | None = None
    guard: float | None = None
    """Smallest guard margin on sealed, over guards and seeds; negative means broken."""
    rollouts: int | None = None
    """Rollouts spent, all seeds together."""
    seeds: int = 1


def final_rows(results: Sequence[ArmResult]) -> list[Row]:
    """Return the rows in reading order: initial, arms, controls, baselines."""
    arms = {result.arm: [r for r in results if r.arm == result.arm] for result in results}
    rows = [_row(name, found) for name, found in arms.items()]
    first = _initial(results)
    return [
        *([first] if first else []),
        *(row for row in rows if row.kind == "arm"),
        *(row for row in rows if row.kind == "control"),
        *_baselines(results),
    ]


def final_table(results: Sequence[ArmResult]) -> list[dict[str, str]]:
    """Return the rows as text by column name, the same columns in each."""
    return [_cells(row) for row in final_rows(results)]


def combine(scores: Sequence[Score]) -> Estimate | None:
    """Return the mean over seeds with its error, or the one seed's own."""
    if not scores:
        return None
    if len(scores) == 1:
        return Estimate(scores[0].mean, scores[0].error)
    return over_seeds([score.mean for score in scores])


def over_seeds(means: Sequence[float]) -> Estimate | None:
    """Return the mean of one figure a seed; its error is the sample deviation / sqrt(seeds)."""
    if not means:
        return None
    return Estimate(fmean(means), stdev(means) / sqrt(len(means)) if len(means) > 1 else None)


def _row(name: str, results: Sequence[ArmResult]) -> Row:
    best = [result.best for result in results if result.best]
    guards = [margin for result in results for margin in result.guards.values()]
    return Row(
        label=name,
        kind="control" if results[0].control else "arm",
        select=combine([result.select for result in results]),
        sealed=combine([result.sealed for result in results]),
        best_select=over_seeds([program.select.mean for program in best]),
        best_sealed=over_seeds([program.sealed.mean for program in best]),
        guard=min(guards, default=None),
        rollouts=sum(result.spend.rollouts for result in results),
        seeds=len(results),
    )


def _initial(results: Sequence[ArmResult]) -> Row | None:
    # All arms of a seed share generation 0, so one arm's cell a seed is all there is.
    select: dict[int, Score] = {}
    sealed: dict[int, Score] = {}
    for result in results:
        for cell in result.factorial:
            if (cell.scaffold, cell.weights) == ("first", "base"):
                select.setdefault(result.seed, cell.score)
        if result.incumbent == result.generations[0]:
            select.setdefault(result.seed, result.select)
            sealed.setdefault(result.seed, result.sealed)
    if not select:
        return None
    return Row(
        "initial",
        "initial",
        combine(list(select.values())),
        combine(list(sealed.values())),
        seeds=len(select),
    )


def _baselines(results: Sequence[ArmResult]) -> list[Row]:
    # By name and split, one value a seed: the arms of a seed read the same instances.
    found: dict[str, dict[str, dict[int, float]]] = {}
    for result in results:
        for name, splits in result.baselines.items():
            for split, mean in splits.items():
                found.setdefault(name, {}).setdefault(split, {})[result.seed] = mean
    rows = []
    for name, by_split in found.items():
        select, sealed = (over_seeds(list(by_split.get(split, {}).values())) for split in ("select", "sealed"))
        seeds = max(len(values) for values in by_split.values())
        rows.append(Row(name, "baseline", select, sealed, seeds=seeds))
    return rows


def _cells(row: Row) -> dict[str, str]:
    return {
        "agent": row.label if row.kind in {"arm", "initial"} else f"{row.label} ({row.kind})",
        "select": _text(row.select),
        "sealed": _text(row.sealed),
        "best program, select": _text(row.best_select),
        "best program, sealed": _text(row.best_sealed),
        "guard margin": DASH if row.guard is None else f"{row.guard:+.4f}{' broken' if row.guard < 0 else ''}",
        "rollouts": DASH if row.rollouts is None else f"{row.rollouts:,}",
        "seeds": str(row.seeds),
    }


def _text(estimate: Estimate | None) -> str:
    return DASH if estimate is None else str(estimate)
