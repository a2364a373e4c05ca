"""The charts of an experiment: score over generations and over spend, the Goodhart gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import fmean, stdev

from sia_flow.report.page.chart import Line, Point, chart
from sia_flow.report.page.markup import Html
from sia_flow.report.page.source import Node, Run, Source


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs that grow generations, by arm."""
    grown = [run for run in runs if run.head.control != "best-of-n" and run.nodes]
    return {run.head.arm: [other for other in grown if other.head.arm == run.head.arm] for run in grown}


def incumbents(nodes: Sequence[Node]) -> list[Node]:
    """Return the incumbent after each generation."""

    def kept(best: Node, new: Node) -> Node:
        return new if new.kept else best

    return list(accumulate(nodes, kept))


def score_over_generations(source: Source) -> Html:
    """Draw the incumbent's select reward, a line an arm, and a mark a generation."""
    lines = []
    for arm, runs in by_arm(source.runs).items():
        marks = [_mark(run, node) for run in runs for node in run.nodes]
        lines.append(Line(_named(arm, runs), _mean(runs, lambda node: (node.select, node.se)), marks))
    note = "Incumbent's mean reward on select over generations; band: one standard error; squares: weight updates, "
    return chart(note + "circles: harness; hollow: not kept", "generation", "select", lines, levels(source))


def score_over_spend(source: Source) -> Html:
    """Draw the incumbent's select reward over the tokens that were sampled, a line a run."""
    lines = []
    for colour, (arm, runs) in enumerate(by_arm(source.runs).items()):
        for run in runs[:3]:
            spent = accumulate(node.tokens for node in run.nodes)
            kept = incumbents(run.nodes)
            points = [Point(x / 1000, node.select) for x, node in zip(spent, kept, strict=True)]
            lines.append(Line(arm if len(runs) == 1 else run.title, points, step=True, colour=colour))
    title = "Incumbent's mean reward on select over thousands of tokens read and sampled"
    return chart(title, "tokens, thousands", "select", lines[:12], levels(source))


def guard_over_generations(source: Source) -> Html:
    """Draw the incumbent's smallest guard margin; below zero a guard is broken."""
    lines = [
        Line(_named(arm, runs), _mean(runs, lambda node: (node.guard or 0.0, 0.0)))
        for arm, runs in by_arm(source.runs).items()
        if all(node.guard is not None for run in runs for node in run.nodes)
    ]
    title = "Incumbent's smallest guard margin on select; below zero a guard is broken"
    return chart(title, "generation", "margin", lines, {"broken below": 0.0}) if lines else Html("")


def gap_over_generations(source: Source) -> Html:
    """Draw what the incumbent scores on train more than on select."""
    lines = [
        Line(_named(arm, runs), _mean(runs, lambda node: (node.train - node.select, 0.0)))
        for arm, runs in by_arm(source.runs).items()
    ]
    return chart(
        "Incumbent's reward on train less that on select", "generation", "train - select", lines, {"none": 0.0}
    )


def truth_over_generations(source: Source) -> list[Html]:
    """Draw each metric that only a known truth gives, where there is one."""
    names = sorted({name for run in source.runs for node in run.nodes for name in node.truth})
    return [_truth(source, name) for name in names]


def _truth(source: Source, name: str) -> Html:
    lines = [
        Line(_named(arm, runs), _mean(runs, lambda node: (node.truth.get(name, float("nan")), 0.0)))
        for arm, runs in by_arm(source.runs).items()
    ]
    return chart(f"Incumbent's {name} on select, which no agent saw", "generation", name, lines)


def levels(source: Source) -> dict[str, float]:
    """Return what the curves are held against: baselines, and the controls' best programs."""
    results = source.results
    if not results:
        return {}
    found = {name: splits["select"] for name, splits in results[0].baselines.items() if splits.get("select", 0) > 0}
    controls: dict[str, list[float]] = {}
    for result in results:
        if result.control == "best-of-n" and result.best is not None:
            controls.setdefault(f"{result.arm} (best program)", []).append(result.best.select.mean)
    return found | {name: fmean(values) for name, values in controls.items()}


def _named(arm: str, runs: Sequence[Run]) -> str:
    return arm if len(runs) == 1 else f"{arm} (mean of {len(runs)} seeds)"


def _mean(runs: Sequence[Run], figure: Callable[[Node], tuple[float, float]]) -> list[Point]:
    """Return the mean over seeds of a figure of the incumbents; the error is over seeds, or the one seed's own."""
    kept = [incumbents(run.nodes) for run in runs]
    points = []
    for index in range(max(map(len, kept))):
        found = [figure(nodes[index]) for nodes in kept if index < len(nodes)]
        values = [value for value, _ in found]
        error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else found[0][1]
        points.append(Point(index, fmean(values), error))
    return points


def _mark(run: Run, node: Node) -> Point:
    shape = "square" if node.weights else "circle"
    href = f"#{run.anchor(node.index)}"
    return Point(node.index, node.select, label=node.label, href=href, shape=shape, kept=node.kept)
