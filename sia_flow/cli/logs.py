"""`sia-flow logs`: what happened in an experiment's runs, line by line, and what is happening now."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sia_flow.cli.lookup import AsJson, Directory


def command(
    what: Annotated[str, typer.Argument(metavar="SPEC|NAME", help="A spec file, or an experiment's name.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines, until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="Lines of the past; 0 shows all.")] = 40,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Show what happened: steps with their times, generations, warnings, how each run began and ended.

    The times are this machine's; they are kept beside the records and never enter a result.

    Examples: sia-flow logs denoise; sia-flow logs denoise -n 0 --json; sia-flow logs denoise --follow
    """
    from sia_flow.cli.lookup import experiment_name, last_events, open_store
    from sia_flow.errors import SpecError
    from sia_flow.loop.eventlog import log_path

    project, _ = open_store(directory or (Path(what) if Path(what).is_file() else None))
    path = log_path(project.state, experiment_name(what))
    if not path.exists():
        raise SpecError(f"there is no log at {path}: the experiment was not applied in this project yet")
    size = path.stat().st_size
    events = [event for event in last_events(path, size) if event["event"] != "progress"]
    for event in events[-tail:] if tail else events:
        _show(event, as_json=as_json)
    if follow:
        for event in _new_events(path, size):
            _show(event, as_json=as_json)


def _new_events(path: Path, position: int) -> Iterator[Mapping[str, Any]]:
    from sia_flow.cli.lookup import parse_event

    with path.open("rb") as file:
        file.seek(position)
        rest = b""
        while True:
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            yield from filter(None, map(parse_event, lines))
            time.sleep(0.5)


def _show(event: Mapping[str, Any], *, as_json: bool) -> None:
    from sia_flow.cli.text import printable

    typer.echo(json.dumps(event) if as_json else printable(line(event)))


def line(event: Mapping[str, Any]) -> str:
    """Return an event as a line: the local time, what, which."""
    at = datetime.fromtimestamp(float(event.get("at", 0))).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    words = _WORDS.get(str(event["event"]), "{event}")
    return f"{at}  {words.format_map(_Blank(event))}".rstrip()


class _Dash:
    """What is not there, whatever the format asks for."""

    def __format__(self, spec: str) -> str:
        return "-"


class _Blank(dict[str, Any]):
    """Fields of an event; one that an older log lacks reads as a dash."""

    def __missing__(self, key: str) -> _Dash:
        return _Dash()


_WORDS = {
    "start": "start       {step}: {label}",
    "progress": "            {label}: {done} of {total} {note}",
    "done": "done        {step}: {label}",
    "generation": "generation  {arm} seed {seed} gen {index}: select {select:.4f}, {verdict}",
    "arm": "arm ended   {arm} seed {seed}: {stopped}, sealed {sealed:.4f}",
    "approval": "approval    {word}: {text}",
    "warning": "warning     {text}",
    "run": "run         {state} {text}",
}
