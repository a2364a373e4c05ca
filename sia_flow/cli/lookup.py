"""What the commands that look at runs share: the project's store, what is running, what it is doing.

Invariant: looking reads a few records and the end of a log; it loads no engine, and changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sia_flow.errors import SpecError
from sia_flow.lineage.heads import Head, heads
from sia_flow.lineage.locks import holder
from sia_flow.lineage.store import Store
from sia_flow.loop.eventlog import log_path
from sia_flow.plan.project import Project

TAIL = 1 << 16
"""Bytes of a log's end that tell what runs now."""

Directory = Annotated[
    Path | None, typer.Option("--directory", "-C", help="The project; by default the one around here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@dataclass(frozen=True, slots=True)
class Now:
    """What an experiment is doing."""

    pid: int | None
    """The process that runs it, none where nothing does."""
    ended: str = ""
    """How its last run ended: `finished`, `stopped`, `failed`; `killed` where it did not say."""
    text: str = ""
    """The reason, or the step that is under way."""


def open_store(directory: Path | None) -> tuple[Project, Store]:
    """Return the project and its store. Raises SpecError where nothing was applied yet."""
    project = Project.find(directory)
    if not project.store.is_dir():
        raise SpecError(f"nothing was applied in {project.root} yet: run `sia-flow apply specs/denoise.yaml`")
    return project, Store(project.store)


def now(project: Project, experiment: str) -> Now:
    """Return what an experiment is doing, from its lock and the end of its log."""
    pid = holder(project.locks, experiment)
    events = list(last_events(log_path(project.state, experiment)))
    if pid is not None:
        return Now(pid, text=_step(events, pid))
    runs = [event for event in events if event["event"] == "run"]
    if not runs:
        return Now(None)
    last = runs[-1]
    ended = "killed" if last["state"] == "began" else str(last["state"])
    return Now(None, ended, str(last.get("text", "")))


def last_events(path: Path, size: int = TAIL) -> Iterator[Mapping[str, Any]]:
    """Yield the events at the end of a log, oldest first."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(start)
            lines = file.read().split(b"\n")[1 if start else 0 :]
    except FileNotFoundError:
        return
    yield from filter(None, map(parse_event, lines))


def parse_event(line: bytes) -> Mapping[str, Any] | None:
    """Return the event of a log line, None for a line that a crash cut short."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _step(events: list[Mapping[str, Any]], pid: int) -> str:
    """Return the step that the process is in, with how far it is."""
    text = ""
    for event in events:
        if event.get("pid") != pid:
            continue
        if event["event"] == "start":
            text = f"{event['step']}: {event['label']}"
        elif event["event"] == "progress" and text:
            total = f" of {event['total']}" if event.get("total") else ""
            text = f"{text.partition(',')[0]}, {event['done']}{total}"
        elif event["event"] == "approval":
            text = f"waits for a yes: {event['text']}" if event["word"] == "asked" else ""
        elif event["event"] in ("done", "run"):
            text = ""
    return text


def of_experiment(store: Store, name: str) -> list[Head]:
    """Return the runs of an experiment. Raises SpecError where there is none."""
    found = heads(store, name)
    if not found:
        known = sorted({head.experiment for head in heads(store)})
        raise SpecError(f"experiment {name!r} was not applied in this project; known: {', '.join(known) or 'none'}")
    return found


def experiment_name(what: str) -> str:
    """Return the experiment that an argument names: a spec file's, or the name itself."""
    path = Path(what)
    if path.suffix in (".yaml", ".yml", ".json") or path.is_file():
        from sia_flow.spec.load import load_experiments

        found = {experiment.metadata.name for experiment in load_experiments(path)}
        if len(found) > 1:
            raise SpecError(f"{what} holds {len(found)} experiments: name one of {', '.join(sorted(found))}")
        return found.pop()
    return what.partition("/")[0]
