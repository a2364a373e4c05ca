"""One door to the importers: a kind, a path, and the options that some of them take."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sia_flow.errors import TaskError
from sia_flow.importers.evolve import read_evolve
from sia_flow.importers.inspect_ai import read_inspect
from sia_flow.importers.layout import Imported
from sia_flow.importers.mle_bench import Direction, read_mle
from sia_flow.importers.sia_agent import read_sia

KINDS = ("sia-agent", "openevolve", "shinka", "inspect", "mle-bench")


class Options(NamedTuple):
    """What a user may say about a task that is taken over; see `sia-flow task import --help`."""

    name: str | None = None
    seed: str | None = None
    metric: str | None = None
    label: str | None = None
    public: Path | None = None
    answers: Path | None = None
    direction: Direction | None = None


def read(kind: str, path: Path, options: Options | None = None) -> Imported:
    """Read a task of another system. Raises TaskError that says what is missing and what to give."""
    given = options or Options()
    if not Path(str(path).partition("@")[0]).exists():
        raise TaskError(f"{path} does not exist")
    if kind == "sia-agent":
        return read_sia(path, given.name, given.label)
    if kind in ("openevolve", "shinka"):
        return read_evolve(kind, path, given.name, given.seed, given.metric)
    if kind == "inspect":
        return read_inspect(path, given.name)
    if kind == "mle-bench":
        return read_mle(path, given.name, given.public, given.answers, given.direction)
    raise TaskError(f"tasks are taken over from {', '.join(KINDS)}, not from {kind!r}")
