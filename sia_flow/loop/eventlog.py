"""What happened in an experiment's runs, in order and with times: one JSON line an event, for `logs` and `status`.

Invariant: a line is written whole or not at all, and nothing that is hashed ever reads it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from sia_flow.files import append
from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.loop.events import Silent

INTERVAL = 1.0
"""Seconds between two lines of progress inside one step."""


def log_path(state: Path, experiment: str) -> Path:
    """Return where an experiment's log lies, in a project's state folder."""
    return state / "logs" / f"{experiment}.jsonl"


class EventLog(Silent):
    """Appends events. A full disk costs lines, never the run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told = 0.0
        self._fresh: set[str] = set()
        """Arms and seeds with a new step since their last generation: several may run at once."""
        self._totals: dict[str, int | None] = {}

    def step_started(self, name: str, label: str, total: int | None) -> None:
        """Note the start of a step."""
        self._totals[label] = total
        self._write("start", step=name, label=label, total=total)

    def step_advanced(self, label: str, done: int, note: str = "") -> None:
        """Note progress, once a second at most."""
        if time.monotonic() - self._told >= INTERVAL:
            self._told = time.monotonic()
            self._write("progress", label=label, done=done, total=self._totals.get(label), note=note)

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        """Note the end of a step that was not there already."""
        self._totals.pop(label, None)
        if not cached:
            self._fresh.add(_run_of(label))
            self._write("done", step=name, label=label)

    def generation(self, arm: str, generation: Generation) -> None:
        """Note a generation, unless a replay came by it."""
        run = f"{arm} seed {generation.seed}"
        shared = generation.index == 0 and bool(self._fresh)
        if run not in self._fresh and not shared:
            return
        self._fresh.discard(run)
        self._write(
            "generation",
            arm=arm,
            seed=generation.seed,
            index=generation.index,
            id=generation.id,
            accepted=generation.accepted,
            select=generation.select.mean,
            verdict=generation.verdict,
        )

    def arm_ended(self, result: ArmResult) -> None:
        """Note the end of an arm."""
        self._write(
            "arm", arm=result.arm, seed=result.seed, stopped=result.stopped, sealed=result.sealed.mean, key=result.key
        )

    def approval(self, word: str, text: str) -> None:
        """Note that a person is asked, or has answered."""
        self._write("approval", word=word, text=text)

    def warning(self, text: str) -> None:
        """Note a warning."""
        self._write("warning", text=text)

    def run(self, state: str, text: str = "") -> None:
        """Note that a run began or ended: `began`, `finished`, `stopped`, `failed`."""
        self._write("run", state=state, text=text)

    def _write(self, event: str, **fields: object) -> None:
        line = json.dumps({"at": round(time.time(), 3), "event": event, "pid": os.getpid(), **_bounded(fields)})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append(self.path, line.encode() + b"\n")
        except OSError:
            return


def _run_of(label: str) -> str:
    """Return arm and seed of a step's label: `SIA-H seed 0` of `SIA-H seed 0 gen 2 select`."""
    arm, word, rest = label.partition(" seed ")
    return f"{arm}{word}{rest.partition(' ')[0]}"


def _bounded(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value[:1500] if isinstance(value, str) else value for name, value in fields.items()}
