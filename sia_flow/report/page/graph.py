"""The lineage graph: a lane a run, a mark a generation, an edge from the parent that it was made from."""

from __future__ import annotations

from sia_flow.report.page.chart import COLOURS, Point, mark
from sia_flow.report.page.markup import Html, empty, tag
from sia_flow.report.page.source import Run, Source

LANE, STEP, NAME = 44, 26, 150
TOP = 24


def lineage(source: Source) -> Html:
    """Return the graph of all runs; each mark leads to its generation."""
    runs = [run for run in source.runs if run.nodes]
    if not runs:
        return tag("p", "No generation is stored yet.")
    arms = list(dict.fromkeys(run.head.arm for run in runs))
    longest = max(len(run.nodes) for run in runs)
    width, height = NAME + STEP * longest + 20, TOP + LANE * len(runs)
    lanes = [_lane(run, place, arms.index(run.head.arm) % COLOURS) for place, run in enumerate(runs)]
    title = (
        "Lineage: each lane is a run, each mark a generation; squares are weight updates, hollow marks were not kept"
    )
    numbers = [
        tag("text", str(i), x=NAME + STEP * i, y=14, class_="middle")
        for i in range(0, longest, 1 if longest <= 30 else 5)
    ]
    picture = tag(
        "svg",
        tag("title", title),
        tag("g", *numbers, aria_hidden="true"),
        *lanes,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="group",
        aria_label=title,
        style="max-width:none",
    )
    shown = tag("div", picture, class_="scroll", tabindex="0", role="region", aria_label="Lineage graph")
    return tag("figure", shown, tag("figcaption", f"{title}."))


def _lane(run: Run, place: int, colour: int) -> Html:
    y = TOP + LANE * place + LANE / 2
    at = {node.id: NAME + STEP * number for number, node in enumerate(run.nodes)}
    edges, marks = [], []
    for node in run.nodes:
        x = at[node.id]
        if node.parent in at:
            edges.append(_edge(at[node.parent], x, y, kept=node.kept))
        shape = "square" if node.weights else "circle"
        href = f"#{run.anchor(node.index)}"
        marks.append(mark(Point(0, 0, label=node.label, href=href, shape=shape, kept=node.kept), x, y, 6))
    name = tag("a", tag("text", run.title, x=4, y=y + 4), href=f"#run-{run.number}")
    return tag("g", name, *edges, *marks, class_=f"c{colour}")


def _edge(start: float, end: float, y: float, *, kept: bool) -> Html:
    bend = y if end - start <= STEP else y - min(18, 4 + (end - start) / 10)
    path = f"M{start:g},{y:g} Q{(start + end) / 2:g},{2 * bend - y:g} {end:g},{y:g}"
    return empty("path", d=path, class_="edge kept" if kept else "edge")
