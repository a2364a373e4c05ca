"""The terminal: a progress bar for each long step, one line a generation, a table at the end.

Quiet where standard output is no terminal: the generation lines and the table only, or JSON lines with `--json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.loop.events import Silent
from sia_flow.report.published import TaskFigures, beside
from sia_flow.report.table import final_table


class Terminal(Silent):
    """Shows a run to a person."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, Any] = {}
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step_started(self, name: str, label: str, total: int | None) -> None:
        """Show a bar for the step; one that a dead worker left goes."""
        self.step_ended(name, label, cached=False)
        self._bars[label] = self.progress.add_task(f"{name}: {label}", total=total, rate="", note="")

    def step_advanced(self, label: str, done: int, note: str = "") -> None:
        """Move the bar."""
        if label in self._bars:
            speed = self.progress.tasks[-1].speed if self.progress.tasks else None
            rate = f"{speed:.1f}/s" if speed else ""
            self.progress.update(self._bars[label], completed=done, note=note, rate=rate)

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        """Take the bar away."""
        del name, cached
        bar = self._bars.pop(label, None)
        if bar is not None:
            self.progress.remove_task(bar)

    def generation(self, arm: str, generation: Generation) -> None:
        """Print the generation's line."""
        self.progress.console.print(generation_line(arm, generation), markup=False, highlight=False, soft_wrap=True)

    def arm_ended(self, result: ArmResult) -> None:
        """Print how the arm ended."""
        text = f"{result.arm} seed {result.seed} ended ({result.stopped}): sealed {result.sealed.mean:.4f}"
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def approval(self, word: str, text: str) -> None:
        """Print what is asked, with the command that answers, or the answer."""
        said = "waits for a yes" if word == "asked" else f"approval: {word}"
        self.progress.console.print(f"{said}: {text}", markup=False, highlight=False, soft_wrap=True)

    def warning(self, text: str) -> None:
        """Print a warning."""
        self.progress.console.print(f"[yellow]warning:[/] {escape(text)}")


class JsonLines(Silent):
    """Writes each event as one JSON line."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def _emit(self, event: str, **fields: Any) -> None:
        self.console.file.write(json.dumps({"event": event, **fields}) + "\n")
        self.console.file.flush()

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        """Write the step."""
        self._emit("step", name=name, label=label, cached=cached)

    def training_step(self, arm: str, seed: int, index: int, step: int, metrics: Mapping[str, float]) -> None:
        """Write the iteration."""
        self._emit("training", arm=arm, seed=seed, generation=index, step=step, metrics=dict(metrics))

    def generation(self, arm: str, generation: Generation) -> None:
        """Write the generation."""
        kept = {
            "id",
            "index",
            "seed",
            "accepted",
            "verdict",
            "gain",
            "gain_se",
            "guards",
            "spend",
            "isolation",
        }
        record = generation.model_dump(mode="json", include=kept)
        scores = {split: _score(getattr(generation, split)) for split in ("train", "select")}
        lever = generation.decision.lever if generation.decision else None
        self._emit("generation", arm=arm, lever=lever, **record, **scores)

    def arm_ended(self, result: ArmResult) -> None:
        """Write the arm's result."""
        self._emit("arm", **result.model_dump(mode="json", exclude={"select", "sealed", "factorial"}))

    def approval(self, word: str, text: str) -> None:
        """Write the question, or the answer."""
        self._emit("approval", word=word, text=text)

    def warning(self, text: str) -> None:
        """Write the warning."""
        self._emit("warning", text=text)


def _score(score: Any) -> dict[str, float]:
    return {"mean": score.mean, "se": score.se, "best": score.best, "valid": score.valid, "n": score.n}


def generation_line(arm: str, generation: Generation) -> str:
    """Return what happened in a generation, in one line."""
    decision = generation.decision
    lever: str = decision.lever if decision else "start"
    taken = [*taken_edits(generation), *([decision.weights.algorithm] if decision and decision.weights else [])]
    lever = f"{lever}: {', '.join(taken)}" if taken else lever
    mark = "kept" if generation.accepted else "not kept"
    guard = ", ".join(f"{name} {margin:+.3f}" for name, margin in generation.guards.items())
    parts = [
        f"{arm:8} seed {generation.seed} gen {generation.index}  {lever:20}",
        f"select {generation.select.mean:.4f} +- {generation.select.se:.4f}",
        f"train {generation.train.mean:.4f} (best {generation.train.best:.4f}, valid {generation.train.valid:.0%})",
        f"guard {guard}" if guard else "",
        f"{generation.spend.rollouts} rollouts",
        mark,
        _short(decision.reason if decision else generation.origin),
    ]
    return "  ".join(part for part in parts if part)


def taken_edits(generation: Generation) -> list[str]:
    """Return what a generation's harness edit is called: a structural one by its name, constants as such."""
    edits = generation.decision.edits if generation.decision else ()
    chosen = {trial.name for trial in generation.trials if trial.chosen} or {edit.name for edit in edits[:1]}
    return ["constants" if e.kind == "constants" else e.name for e in edits if e.name in chosen]


def _short(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def print_final(console: Console, title: str, results: Sequence[ArmResult], theirs: TaskFigures | None = None) -> None:
    """Print the closing table: initial, each arm, controls and baselines, beside them what others published."""
    print_rows(console, title, beside(final_table(results), theirs))


def print_rows(console: Console, title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows of equal columns as a table; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(rows[0] if rows else ()):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console.print(table)
