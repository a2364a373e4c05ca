"""Line charts as SVG, drawn from figures alone.

Invariant: a chart says its axes, tells lines apart without colour (dashes, shapes), and each point that stands for a
generation is a link that the keyboard reaches; equal figures give equal markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sia_flow.report.page.markup import Html, empty, join, tag

WIDTH, HEIGHT = 880, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
DASHES = ("", "7 3", "2 3", "9 3 2 3")
COLOURS = 6
"""Classes `c0` ... `c5` of the style sheet."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a chart."""

    x: float
    y: float
    error: float = 0.0
    """Half height of its band."""
    label: str = ""
    href: str = ""
    shape: str = ""
    """`circle` or `square`; nothing for a bend of the line alone."""
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    marks: Sequence[Point] = ()
    """Points beside the line."""
    step: bool = False
    """Whether the value holds until the next point."""
    colour: int | None = None
    """Its place among the colours, where it shares one with other lines."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values laid over a range of pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def chart(title: str, x: str, y: str, lines: Sequence[Line], levels: dict[str, float] | None = None) -> Html:
    """Return a figure; `levels` are horizontal lines by name."""
    shown = [line for line in lines if line.points]
    values = [p.y + sign * p.error for line in shown for p in (*line.points, *line.marks) for sign in (-1, 1)]
    places = [p.x for line in shown for p in (*line.points, *line.marks)]
    values, places = _finite(values + list((levels or {}).values())), _finite(places)
    if not values or not places:
        return tag("p", f"{title}: nothing was measured.")
    across = Scale(*_span(places, whole=True), LEFT, WIDTH - RIGHT)
    up = Scale(*_span(values), HEIGHT - BOTTOM, TOP)
    body = [_axes(across, up, x, y), *_levels(across, up, levels or {})]
    body += [_line(line, number, across, up) for number, line in enumerate(shown)]
    picture = tag(
        "svg",
        tag("title", title),
        *body,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="group",
        aria_label=title,
        class_="chart",
    )
    return tag("figure", picture, tag("figcaption", title, ". ", _legend(shown, levels or {})))


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _span(values: Sequence[float], *, whole: bool = False) -> tuple[float, float]:
    low, high = min(values), max(values)
    if whole:
        return low, max(high, low + 1)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return round values between two, about `count` of them."""
    raw = (high - low) / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(across: Scale, up: Scale, x: str, y: str) -> Html:
    parts = []
    for value in ticks(up.low, up.high):
        parts.append(empty("line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(value), y2=up(value), class_="grid"))
        parts.append(tag("text", f"{value:g}", x=LEFT - 6, y=up(value) + 4, class_="end"))
    whole = [v for v in ticks(across.low, across.high, 10) if across.high - across.low > 10 or v == int(v)]
    parts += [tag("text", f"{v:,.0f}", x=across(v), y=HEIGHT - BOTTOM + 16, class_="middle") for v in whole]
    parts.append(tag("text", x, x=(LEFT + WIDTH) / 2, y=HEIGHT - 6, class_="middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(tag("text", y, x=14, y=middle, class_="middle", transform=f"rotate(-90 14 {middle:g})"))
    return tag("g", *parts, class_="axes", aria_hidden="true")


def _levels(across: Scale, up: Scale, levels: dict[str, float]) -> list[Html]:
    return [
        empty(
            "line",
            x1=across.start,
            x2=across.end,
            y1=up(value),
            y2=up(value),
            class_="level",
            stroke_dasharray=DASHES[1 + i % 3],
        )
        for i, value in enumerate(levels.values())
    ]


def _line(line: Line, number: int, across: Scale, up: Scale) -> Html:
    points = [p for p in line.points if math.isfinite(p.y)]
    places = [(across(p.x), up(p.y)) for p in points]
    if line.step:
        bends = [corner for (_, y), (x, new) in pairwise(places) for corner in ((x, y), (x, new))]
        places = places[:1] + bends
    path = " ".join(f"{x:g},{y:g}" for x, y in places)
    drawn = [empty("polyline", points=path, class_="line", stroke_dasharray=_dash(line, number))]
    if any(p.error for p in points) and not line.step:
        top = [f"{across(p.x):g},{up(p.y + p.error):g}" for p in points]
        low = [f"{across(p.x):g},{up(p.y - p.error):g}" for p in reversed(points)]
        drawn.insert(0, empty("polygon", points=" ".join(top + low), class_="band"))
    return tag("g", *drawn, *(mark(p, across(p.x), up(p.y)) for p in line.marks), class_=_colour(line, number))


def mark(point: Point, x: float, y: float, size: float = 4.5) -> Html:
    """Return the mark of a generation: a link, hollow where it was not kept."""
    kind = "mark" if point.kept else "mark hollow"
    if point.shape == "square":
        shape = empty("rect", x=x - size, y=y - size, width=2 * size, height=2 * size, class_=kind)
    else:
        shape = empty("circle", cx=x, cy=y, r=size, class_=kind)
    return tag("a", tag("title", point.label), shape, href=point.href, aria_label=point.label)


def _dash(line: Line, number: int) -> str | None:
    return DASHES[(number // COLOURS if line.colour is None else number) % 4] or None


def _colour(line: Line, number: int) -> str:
    return f"c{(number if line.colour is None else line.colour) % COLOURS}"


def _legend(lines: Sequence[Line], levels: dict[str, float]) -> Html:
    keys = [tag("span", line.name, class_=f"key {_colour(line, n)}") for n, line in enumerate(lines)]
    keys += [tag("span", f"{name} {value:.3f}", class_="key level") for name, value in levels.items()]
    return join(keys, " ")
