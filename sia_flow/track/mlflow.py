"""MLflow as a view of the records: an experiment a spec, a parent run an arm and seed, a child run a
generation.

Invariants: every call may be repeated and then writes nothing new; a run that a killed process left RUNNING
is taken over and ended; all that is shown comes from the view, so the whole of it can be rebuilt from the
store.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sia_flow.canonical import digest
from sia_flow.track import entries, traces
from sia_flow.track.entries import Point
from sia_flow.track.live import LiveBuffer
from sia_flow.track.runs import SQLITE, RunEntry, Runs
from sia_flow.track.views import ArmView, FinalView, GenerationView, Halt, generation_key

DONE = "sia.generation"
ENDED = "sia.result"


def default_uri(root: Path, environ: Mapping[str, str] | None = None) -> str:
    """Return the tracking URI of a project: the user's MLFLOW_TRACKING_URI, else SQLite in `mlruns`."""
    chosen = (os.environ if environ is None else environ).get("MLFLOW_TRACKING_URI")
    return chosen or f"{SQLITE}{root.resolve() / 'mlruns' / 'mlflow.db'}"


def default_artifacts(root: Path) -> Path:
    """Return the folder for artifacts of a project's own database; an experiment takes a folder in it."""
    return root.resolve() / "mlruns" / "artifacts"


class MlflowTracker:
    """Shows an experiment in MLflow. Raises whatever MLflow raises: wrap it in `SafeTracker`.

    `artifacts` is the experiment's own folder, `sampled` how many trajectories of a generation become traces.
    """

    def __init__(self, uri: str, artifacts: Path, experiment: str, sampled: int = 8) -> None:
        for name in ("mlflow.store", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._runs = Runs(uri, artifacts, experiment)
        self._experiment = experiment
        self._sampled = sampled
        self._live = LiveBuffer(self._write_live)
        self._places: dict[str, tuple[ArmView, int]] = {}

    @property
    def uri(self) -> str:
        """The tracking URI."""
        return self._runs.uri

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        return self._runs.experiment_id

    def run_id(self, key: str) -> str | None:
        """Return MLflow's id of the run of an arm's or a generation's key, None when it is not shown yet."""
        return self._runs.find(key)

    def arm(self, view: ArmView) -> None:
        """Show an arm that has begun."""
        self._parent(view)

    def generation(self, view: GenerationView) -> None:
        """Show a finished generation: its child run, and its scores in the arm's run."""
        self._live.flush()
        run = self._child(view.arm, view.generation.index)
        if run.tags.get(DONE) not in {None, view.generation.id}:
            self._runs.supersede(view.key)
            run = self._child(view.arm, view.generation.index)
        if DONE in run.tags:
            return
        generation = view.generation
        gap = entries.goodhart_points(view)
        points, params = entries.generation_points(generation), entries.generation_params(generation)
        self._runs.write(run, [*points, *gap], params, entries.generation_tags(view))
        self._files(run, view)
        self._data(run, view)
        self._traces(run, view)
        self._runs.write(self._parent(view.arm), [*entries.progress_points(generation), *gap])
        self._runs.finish(run, DONE, generation.id)

    def live(self, arm: ArmView, generation: int, step: int, metrics: Mapping[str, float]) -> None:
        """Show a training step of the generation that is under way; written in batches."""
        key = generation_key(arm, generation)
        self._places[key] = (arm, generation)
        self._live.add(key, step, metrics)

    def final(self, view: FinalView) -> None:
        """Show the end of an arm: the sealed score, the best program, the baselines and the 2x2."""
        self._live.flush()
        run = self._parent(view.arm)
        mark = f"{view.result.key}:{view.result.incumbent}:{len(view.result.generations)}"
        if run.tags.get(ENDED) == mark:
            return
        self._runs.write(run, entries.final_points(view), tags=entries.final_tags(view.result))
        if view.report:
            self._runs.client.log_text(run.id, view.report, "report.md")
        self._plots(run, view.plots)
        self._runs.finish(run, ENDED, mark)

    def halt(self, arm: ArmView, status: Halt) -> None:
        """End the arm's run, and those of generations that are not whole, as stopped or failed."""
        self._live.flush()
        self._runs.halt(arm.key, ENDED, status)

    def page(self, path: Path) -> None:
        """Keep a report of the whole experiment as the artifact of a run of its own, named `report`."""
        run = self._runs.open(digest([self._experiment, "report"]), "report", {"sia.kind": "report"})
        self._runs.client.log_artifact(run.id, str(path))
        self._runs.client.set_terminated(run.id, "FINISHED")

    def flush(self) -> None:
        """Write the training steps that still wait."""
        self._live.flush()

    def _parent(self, view: ArmView) -> RunEntry:
        run = self._runs.open(view.key, f"{view.arm} seed {view.seed}", entries.arm_tags(view))
        if "sia.begun" not in run.tags:
            self._runs.write(run, params=entries.arm_params(view))
            self._runs.client.log_dict(run.id, dict(view.spec), "spec.json")
            self._runs.client.set_tag(run.id, "sia.begun", "true")
        return run

    def _child(self, arm: ArmView, index: int) -> RunEntry:
        key = generation_key(arm, index)
        tags = {"sia.kind": "generation", "sia.arm": arm.arm, "sia.seed": str(arm.seed)}
        return self._runs.open(key, f"gen-{index}", tags, parent=self._parent(arm).id)

    def _write_live(self, key: str, points: Sequence[Point]) -> None:
        run = self._child(*self._places[key])
        if DONE not in run.tags:
            self._runs.write(run, points)

    def _files(self, run: RunEntry, view: GenerationView) -> None:
        client = self._runs.client
        for path, text in view.scaffold_files.items():
            client.log_text(run.id, text, f"scaffold/{path}")
        if view.diff:
            client.log_text(run.id, view.diff, "scaffold.diff")
        if view.report:
            client.log_text(run.id, view.report, "decision.md")
        if view.adapter_dir is not None:
            client.log_artifacts(run.id, str(view.adapter_dir), "adapter")
        self._plots(run, view.plots)

    def _plots(self, run: RunEntry, plots: Mapping[str, Path]) -> None:
        for path in plots.values():
            self._runs.client.log_artifact(run.id, str(path), "plots")

    def _data(self, run: RunEntry, view: GenerationView) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        task = view.arm.spec.get("spec", {}).get("task", {}).get("name", "data")
        source = f'{{"digest": "{view.generation.data}"}}'
        # The column holds 36 characters; the whole digest is in the source and in the tag `sia.data`.
        data = Dataset(name=task, digest=view.generation.data[:36], source_type="sia-flow", source=source)
        context = InputTag("mlflow.data.context", "train, select")
        self._runs.client.log_inputs(run.id, datasets=[DatasetInput(data, [context])])

    def _traces(self, run: RunEntry, view: GenerationView) -> None:
        from mlflow.tracing.client import TracingClient

        client = TracingClient(self.uri)
        place = traces.Place(self.experiment_id, run.id, f"{view.key}/{view.generation.id}")
        for index, why in traces.pick(view.verdicts, self._sampled):
            traces.show(client, place, view.trajectories[index], view.verdicts[index], why)
