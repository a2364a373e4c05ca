"""The human view of the store: `runs/<experiment>/<arm>/seed-<n>/gen-<k>/` as plain files.

A view only: it can be deleted at any time and is written again from the records.
"""

from __future__ import annotations

import json
from pathlib import Path

from sia_flow.files import write_atomic
from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Silent
from sia_flow.report.markdown import decision_report
from sia_flow.scaffold.diff import unified_diff


class FolderView(Silent):
    """Writes each generation and each arm's result as files."""

    def __init__(self, store: Store, runs: Path, checkpoints: Path, experiment: str) -> None:
        self.store = store
        self.runs = runs / experiment
        self.checkpoints = checkpoints / experiment

    def folder(self, arm: str, seed: int) -> Path:
        """Return the folder of an arm and seed."""
        return self.runs / arm / f"seed-{seed}"

    def generation(self, arm: str, generation: Generation) -> None:
        """Lay one generation out."""
        folder = self.folder(arm, generation.seed) / f"gen-{generation.index}"
        objects = self.store.objects
        objects.checkout(generation.scaffold, folder / "scaffold")
        self._write(folder / "decision.md", decision_report(arm, generation, first=self.store.first(generation)))
        self._write(folder / "scaffold.diff", self.diff(generation))
        self._write(folder / "scores.json", _scores(generation))
        self._write(folder / "trajectories.jsonl", objects.get_text(generation.trajectories))
        for talk in self._talks(generation):
            self._write(folder / "transcript.jsonl", objects.get_text(talk))
        if generation.adapter is not None:
            objects.checkout(generation.adapter, folder / "adapter")
        if generation.training:
            from sia_flow.report.plots import training_curves

            training_curves(generation, folder / "training.png")

    def _talks(self, generation: Generation) -> list[str]:
        """Return the object id of the talk with a model that made a generation, where one did."""
        steps = generation.steps
        keys = [steps[name] for name in ("scaffold synth", "feedback", "unaided") if name in steps]
        records = [self.store.find(key) for key in keys]
        return [record.outputs["transcript"] for record in records if record and "transcript" in record.outputs]

    def diff(self, generation: Generation) -> str:
        """Return the unified diff of a generation's scaffold against its parent's, empty for the first."""
        if generation.parent is None:
            return ""
        parent = self.store.generation(generation.parent)
        objects = self.store.objects
        return unified_diff(objects.get_sources(parent.scaffold), objects.get_sources(generation.scaffold))

    def arm_ended(self, result: ArmResult) -> None:
        """Write the arm's result, its best program, and its final agent as a published checkpoint."""
        folder = self.folder(result.arm, result.seed)
        self._write(folder / "result.json", json.dumps(result.model_dump(mode="json"), indent=2) + "\n")
        if result.best is not None:
            self._write(folder / "best_program.py", self.store.objects.get_text(result.best.answer))
        incumbent = self.store.generation(result.incumbent)
        target = self.checkpoints / result.arm / f"seed-{result.seed}"
        self.store.objects.checkout(incumbent.scaffold, target / "scaffold")
        if incumbent.adapter is not None:
            self.store.objects.checkout(incumbent.adapter, target / "adapter")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        write_atomic(path, text.encode("utf-8"), sync=False)


def _scores(generation: Generation) -> str:
    kept = {"id", "accepted", "verdict", "gain", "gain_se", "train", "select", "guards", "spend", "trials"}
    return json.dumps(generation.model_dump(mode="json", include=kept), indent=2) + "\n"
