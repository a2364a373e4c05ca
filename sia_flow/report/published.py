"""Figures that others published, beside ours: a column of the closing table, and a word on what does not compare.

Invariant: a published figure never enters a comparison, an interval or a verdict; it only stands there. An experiment
asks for it by the label `published`, which names a file of the project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Strict, ValidationError

from sia_flow.errors import SpecError
from sia_flow.report.table import DASH
from sia_flow.spec.base import Section
from sia_flow.spec.syntax import parse_yaml

LABEL = "published"
COLUMN = "paper"


class TaskFigures(Section):
    """What was published for one task."""

    metric: str
    """What the figures are."""
    figures: Mapping[str, float]
    """Row of the closing table -> figure."""
    others: Mapping[str, float] = {}
    """Who has no row there -> figure."""
    differs: Annotated[tuple[str, ...], Strict(strict=False)] = ()
    """What is not comparable, a sentence each."""


Cited = tuple[str, TaskFigures]
"""Title of the source, and its figures of one task."""


class Published(Section):
    """A file of published figures."""

    title: str
    """What is cited."""
    tasks: Mapping[str, TaskFigures]


def published_for(root: Path, metadata: Mapping[str, Any], task: str) -> Cited | None:
    """Return the title and the figures that an experiment's metadata asks for; none without the label or the task.

    Raises SpecError for a file that is missing or says something else.
    """
    name = (metadata.get("labels") or {}).get(LABEL)
    if name is None:
        return None
    found = read_published(root / name)
    return (found.title, found.tasks[task]) if task in found.tasks else None


def read_published(path: Path) -> Published:
    """Read a file of published figures. Raises SpecError."""
    try:
        text = path.read_text(encoding="utf-8")
        return Published.model_validate(parse_yaml(text, str(path)).root.plain())
    except OSError as error:
        raise SpecError(f"metadata.labels.{LABEL}: cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SpecError(f"{path}: {place}: {first['msg']} (published figures: title, tasks)") from error


def beside(rows: Sequence[Mapping[str, str]], theirs: TaskFigures | None) -> list[dict[str, str]]:
    """Return the rows of the closing table with a column of published figures, and a row for each of the others.

    Where nothing is cited the rows are as they were.
    """
    if theirs is None:
        return [dict(row) for row in rows]
    figure = {agent: f"{value:.3f}" for agent, value in theirs.figures.items()}
    ours = [{**row, COLUMN: figure.get(row["agent"], DASH)} for row in rows]
    if not ours:
        return []
    blank = dict.fromkeys(ours[0], DASH)
    others = [{**blank, "agent": f"{name} ({COLUMN})", COLUMN: f"{value:.3f}"} for name, value in theirs.others.items()]
    return ours + others


def caveats(title: str, theirs: TaskFigures) -> list[str]:
    """Return the lines that say what the column is and what about it does not compare."""
    return [
        f"{COLUMN}: {title}, {theirs.metric}. Not the same experiment:",
        *(f"  - {text}" for text in theirs.differs),
    ]
