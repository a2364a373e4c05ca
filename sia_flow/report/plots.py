"""Pictures of a run: score over generations, score over spend, the curves of a weight update.

Invariants: every axis says what it shows and on which split; a band is one standard error; a point that was
not kept is hollow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sia_flow.lineage.goodhart import ALARM, Closing, gaps
from sia_flow.lineage.records import Generation, Score
from sia_flow.report.canvas import COLOURS, GREY, SIZE, canvas, dress, figure_of, save, write
from sia_flow.report.table import Estimate, combine

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Line:
    """One arm and seed: its generations in order."""

    arm: str
    generations: tuple[Generation, ...]


def score_over_generations(
    lines: Sequence[Line],
    path: Path,
    baselines: Mapping[str, float] | None = None,
    split: Literal["train", "select"] = "select",
) -> Path:
    """Draw the incumbent's reward, a line an arm (mean over its seeds), and a point a generation; return `path`."""
    figure, axes = canvas("generation", f"incumbent's mean reward on {split}", whole=True)
    for colour, (arm, seeds) in zip(COLOURS * 4, _by_arm(lines).items(), strict=False):
        count = max(len(line.generations) for line in seeds)
        kept = [[getattr(g, split) for g in _incumbents(line.generations)] for line in seeds]
        points = [combine([scores[i] for scores in kept if i < len(scores)]) for i in range(count)]
        _band(axes, list(range(count)), points, colour, _label(arm, seeds))
        for generation in (g for line in seeds for g in line.generations):
            _mark(axes, generation, getattr(generation, split), colour)
    _levels(axes, baselines or {})
    return save(figure, axes, path, "points: generations (squares: weight updates; hollow: not kept); band: ±1 SE")


def score_over_spend(lines: Sequence[Line], path: Path, baselines: Mapping[str, float] | None = None) -> Path:
    """Draw the incumbent's reward on select over the rollouts spent, a line an arm and seed."""
    figure, axes = canvas("rollouts spent (all splits)", "incumbent's mean reward on select")
    for colour, (arm, seeds) in zip(COLOURS * 4, _by_arm(lines).items(), strict=False):
        for number, line in enumerate(seeds):
            spent = list(accumulate(generation.spend.rollouts for generation in line.generations))
            scores = [generation.select for generation in _incumbents(line.generations)]
            means = [score.mean for score in scores]
            label = arm if number == 0 else None
            axes.plot(spent, means, color=colour, drawstyle="steps-post", linewidth=1.8, label=label)
            low, high = ([s.mean + sign * s.se for s in scores] for sign in (-1, 1))
            axes.fill_between(spent, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
            axes.errorbar(spent[-1], means[-1], scores[-1].se, fmt="o", color=colour, markersize=6, capsize=3)
    axes.set_xlim(left=0)
    _levels(axes, baselines or {})
    return save(figure, axes, path, "band: ±1 SE over rollouts of one seed")


def goodhart_over_generations(lines: Sequence[Line], path: Path, closing: Mapping[str, Closing] | None = None) -> Path:
    """Draw how far the incumbent's train reward has run away from select since generation 0, a line an arm and seed.

    `closing` gives, by arm, how far select ran away from sealed when the arm ended: a cross behind the last generation.
    """
    figure, axes = canvas("generation", "growth of train - select since generation 0", whole=True)
    for colour, (arm, seeds) in zip(COLOURS * 4, _by_arm(lines).items(), strict=False):
        for number, line in enumerate(seeds):
            found = gaps(_incumbents(line.generations))
            places = list(range(len(found)))
            axes.plot(places, [gap.growth for gap in found], color=colour, label=arm if number == 0 else None)
            low, high = ([gap.growth + sign * ALARM * gap.growth_se for gap in found] for sign in (-1, 1))
            axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)
            alarmed = [(place, gap.growth) for place, gap in zip(places, found, strict=True) if gap.alarms]
            axes.plot([x for x, _ in alarmed], [y for _, y in alarmed], "^", color=colour, markersize=9)
        last = max(len(line.generations) for line in seeds)
        if closing and arm in closing:
            end = closing[arm]
            label = f"{arm}: select - sealed at the end"
            axes.errorbar([last], [end.gap], ALARM * end.se, fmt="x", color=colour, capsize=3, label=label)
    axes.axhline(0.0, color=GREY, linewidth=1.0)
    return save(figure, axes, path, f"band and bars: ±{ALARM:g} SE; a triangle is an alarm")


CURVES = (
    ("reward_mean", "mean reward on train"),
    ("valid_rate", "share of valid answers"),
    ("kl_base", "KL to the base (nats a sequence)"),
    ("entropy", "entropy (nats a token)"),
)


def training_curves(generation: Generation, path: Path) -> Path:
    """Draw the metrics of a weight update over its iterations, and return `path`.

    Raises ValueError for a generation that no weight update made.
    """
    shown = [(key, title) for key, title in CURVES if any(key in step for step in generation.training)]
    if not shown:
        raise ValueError(f"generation {generation.index} has no training metrics to draw")
    rows, columns = (len(shown) + 1) // 2, min(2, len(shown))
    figure = figure_of((SIZE[0], 2.6 * rows + 0.4))
    for place, (key, title) in enumerate(shown, 1):
        axes = figure.add_subplot(rows, columns, place)
        steps = [(i, step[key]) for i, step in enumerate(generation.training) if key in step]
        axes.plot(*zip(*steps, strict=True), color=COLOURS[0], linewidth=1.8)
        dress(axes, "iteration", whole=True)
        axes.set_title(title, fontsize=11, loc="left")
    title = f"generation {generation.index}: {_algorithm(generation)}, seed {generation.seed}"
    figure.suptitle(title, fontsize=12)
    return write(figure, path)


def _algorithm(generation: Generation) -> str:
    plan = generation.decision.weights if generation.decision else None
    return plan.algorithm if plan else ""


def _by_arm(lines: Sequence[Line]) -> dict[str, list[Line]]:
    return {line.arm: [other for other in lines if other.arm == line.arm] for line in lines if line.generations}


def _label(arm: str, seeds: Sequence[Line]) -> str:
    return arm if len(seeds) == 1 else f"{arm} (mean of {len(seeds)} seeds)"


def _incumbents(generations: Sequence[Generation]) -> list[Generation]:
    """Return the incumbent after each generation."""

    def kept(best: Generation, new: Generation) -> Generation:
        return new if new.accepted else best

    return list(accumulate(generations, kept))


def _band(axes: Axes, x: Sequence[int], points: Sequence[Estimate | None], colour: str, label: str) -> None:
    means = [point.mean if point else float("nan") for point in points]
    errors = [point.se or 0.0 if point else 0.0 for point in points]
    axes.plot(x, means, color=colour, linewidth=1.8, label=label)
    low = [mean - error for mean, error in zip(means, errors, strict=True)]
    high = [mean + error for mean, error in zip(means, errors, strict=True)]
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _mark(axes: Axes, generation: Generation, score: Score, colour: str) -> None:
    axes.plot(
        [generation.index],
        [score.mean],
        "s" if _algorithm(generation) else "o",
        markersize=5,
        color=colour,
        markerfacecolor=colour if generation.accepted else "white",
        markeredgewidth=1.4,
    )


def _levels(axes: Axes, baselines: Mapping[str, float]) -> None:
    for (name, mean), style in zip(baselines.items(), ("--", ":", "-.") * 4, strict=False):
        axes.axhline(mean, color=GREY, linestyle=style, linewidth=1.4, label=f"{name} ({mean:.3f})")
