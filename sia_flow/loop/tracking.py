"""Shows a run's records to a tracker, as they come.

Invariant: the tracker is a view; whatever it does, the run's records are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sia_flow.lineage.jsonl import load_lines
from sia_flow.lineage.records import Generation, Trajectory, Verdict
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Silent
from sia_flow.loop.view import FolderView
from sia_flow.report.markdown import decision_report
from sia_flow.spec.models import Experiment
from sia_flow.track.views import ArmView, FinalView, GenerationView, Halt, Tracker


class Tracking(Silent):
    """A watcher that turns records into views for a tracker."""

    def __init__(self, tracker: Tracker, experiment: Experiment, run: str, store: Store, view: FolderView) -> None:
        self.tracker = tracker
        self.experiment = experiment
        self.run = run
        self.store = store
        self.view = view
        self._shown: set[tuple[str, int]] = set()
        self._ended: set[tuple[str, int]] = set()

    def arm_view(self, arm: str, seed: int) -> ArmView:
        """Return the view of an arm, and show it the first time that it is asked for."""
        spec: dict[str, Any] = self.experiment.model_dump(mode="json")
        found = next(a for a in self.experiment.spec.arms if a.name == arm)
        name = self.experiment.metadata.name
        view = ArmView(name, self.run, arm, seed, spec, tuple(found.levers), found.control)
        if (arm, seed) not in self._shown:
            self._shown.add((arm, seed))
            self.tracker.arm(view)
        return view

    def training_step(self, arm: str, seed: int, index: int, step: int, metrics: Mapping[str, float]) -> None:
        """Show a training iteration."""
        self.tracker.live(self.arm_view(arm, seed), index, step, metrics)

    def generation(self, arm: str, generation: Generation) -> None:
        """Show a generation with its scaffold, diff, report, adapter and trajectories."""
        objects = self.store.objects
        folder = self.view.folder(arm, generation.seed) / f"gen-{generation.index}"
        verdicts = self.store.find(generation.steps["verify train"])
        first = self.view.store.first(generation)
        curves = folder / "training.png"
        self.tracker.generation(
            GenerationView(
                arm=self.arm_view(arm, generation.seed),
                generation=generation,
                first=first,
                scaffold_files=objects.get_sources(generation.scaffold),
                diff=self.view.diff(generation),
                report=decision_report(arm, generation, first=first),
                adapter_dir=folder / "adapter" if generation.adapter else None,
                trajectories=load_lines(objects.get_bytes(generation.trajectories), Trajectory),
                verdicts=load_lines(objects.get_bytes(verdicts.outputs["verdicts"]), Verdict) if verdicts else (),
                plots={"training": curves} if generation.training and curves.is_file() else {},
            )
        )

    def arm_ended(self, result: ArmResult) -> None:
        """Show the end of an arm."""
        self._ended.add((result.arm, result.seed))
        self.tracker.final(FinalView(self.arm_view(result.arm, result.seed), result))

    def halted(self, status: Halt) -> None:
        """Show that the arms under way were left unfinished."""
        for arm, seed in self._shown - self._ended:
            self.tracker.halt(self.arm_view(arm, seed), status)
