"""What an experiment leaves for people to look at: MLflow runs, plots, a comparison, the links to them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sia_flow.cli.workbench import run_identity
from sia_flow.errors import Interrupted
from sia_flow.files import write_atomic
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.eventlog import EventLog, log_path
from sia_flow.loop.events import Watcher
from sia_flow.loop.heads import HeadKeeper
from sia_flow.loop.tracking import Tracking
from sia_flow.loop.view import FolderView
from sia_flow.plan.project import Project
from sia_flow.track.background import BackgroundTracker
from sia_flow.track.links import links
from sia_flow.track.safe import SafeTracker

if TYPE_CHECKING:
    from sia_flow.cli.running import Request
    from sia_flow.report.published import Cited
    from sia_flow.track.mlflow import MlflowTracker


@dataclass(slots=True)
class OpenTracking:
    """A run's tracker and the watchers that feed it."""

    safe: SafeTracker
    background: BackgroundTracker
    watcher: Tracking
    folder: FolderView
    heads: HeadKeeper
    log: EventLog
    made: list[MlflowTracker] = field(default_factory=list)
    """The tracker itself, once it was needed."""

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """All that look on, in the order in which they are told."""
        return (self.heads, self.folder, self.log, self.watcher)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note in the log and in MLflow how the block ends."""
        self.log.run("began")
        try:
            yield
        except (Interrupted, KeyboardInterrupt) as stop:
            self.log.run("stopped", str(stop))
            self.watcher.halted("KILLED")
            raise
        except BaseException as error:
            self.log.run("failed", f"{type(error).__name__}: {error}")
            self.watcher.halted("FAILED")
            raise
        self.log.run("finished")

    def close(self, request: Request) -> None:
        """Wait for MLflow, and keep the addresses of its pages for later applies, which load no MLflow."""
        self.background.close()
        if not self.made or self.safe.dirty:
            return
        tracker, project = self.made[0], request.project
        runs = {}
        for seed in request.experiment.spec.seeds:
            for arm in request.experiment.spec.arms:
                run = tracker.run_id(self.watcher.arm_view(arm.name, seed).key)
                if run is not None:
                    runs[f"{arm.name} seed {seed}"] = run
        name = request.experiment.metadata.name
        found = links(tracker.uri, project.artifacts / name, tracker.experiment_id, runs)
        kept = {"compare": found.compare, "experiment": found.experiment}
        write_atomic(_links_path(project, name), json.dumps(kept).encode())


def open_tracking(request: Request) -> OpenTracking:
    """Return the tracker of a run; MLflow starts in the background and is never waited for by the loop."""
    from sia_flow.track.mlflow import MlflowTracker, default_uri

    project, track = request.project, request.experiment.spec.track
    name = request.experiment.metadata.name
    made: list[MlflowTracker] = []

    def make() -> MlflowTracker:
        uri = track.uri or default_uri(project.root)
        made.append(MlflowTracker(uri, project.artifacts / name, name, track.traces))
        return made[0]

    store, safe = Store(project.store), SafeTracker(make)
    safe.start_async()
    folder = FolderView(store, project.runs, project.checkpoints, name)
    background = BackgroundTracker(safe)
    watcher = Tracking(background, request.experiment, run_identity(request.experiment, project.root), store, folder)
    keeper = HeadKeeper(store, request.experiment)
    return OpenTracking(safe, background, watcher, folder, keeper, EventLog(log_path(project.state, name)), made)


def where_to_look(project: Project, name: str, results: Sequence[ArmResult], cited: Cited | None = None) -> list[str]:
    """Write plots and the comparison, and return the lines that say where everything is."""
    folder = project.runs / name
    shown = os.path.relpath(folder)
    if not results:
        return [f"files: {shown}"]
    draw(project, name, results, cited)
    lines = [f"files: {shown} (comparison.md, plots/, one folder an arm, seed and generation)"]
    lines.append("pages: `sia-flow ui` serves Prefect and MLflow; then open")
    path = _links_path(project, name)
    if path.exists():
        lines.append(f"  {json.loads(path.read_text(encoding='utf-8'))['compare']}")
    return lines


def draw(project: Project, name: str, results: Sequence[ArmResult], cited: Cited | None = None) -> None:
    """Draw score over generations and over spend, and write the comparison, unless they are there already."""
    from sia_flow.report.markdown import comparison_report

    folder = project.runs / name
    report = comparison_report(results, cited=cited).encode("utf-8")
    path = folder / "comparison.md"
    if path.exists() and path.read_bytes() == report and (folder / "plots" / "spend.png").exists():
        return
    from sia_flow.lineage.goodhart import closing
    from sia_flow.report.plots import Line, goodhart_over_generations, score_over_generations, score_over_spend

    store = Store(project.store)
    lines = [
        Line(r.arm, tuple(store.generation(g) for g in r.generations)) for r in results if r.control != "best-of-n"
    ]
    levels = {name: figures["select"] for name, figures in results[0].baselines.items() if figures["select"] > 0}
    levels |= _controls(results)
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    if lines:
        score_over_generations(lines, folder / "plots" / "generations.png", levels)
        score_over_spend(lines, folder / "plots" / "spend.png", levels)
        ends = {result.arm: closing(result) for result in results if len(result.generations) > 1}
        goodhart_over_generations(lines, folder / "plots" / "goodhart.png", ends)
    write_atomic(path, report)


def _controls(results: Sequence[ArmResult]) -> dict[str, float]:
    means: dict[str, list[float]] = {}
    for result in results:
        if result.control == "best-of-n" and result.best is not None:
            means.setdefault(f"{result.arm} (best program)", []).append(result.best.select.mean)
    return {name: sum(values) / len(values) for name, values in means.items()}


def _links_path(project: Project, name: str) -> Path:
    return project.state / "links" / f"{name}.json"
