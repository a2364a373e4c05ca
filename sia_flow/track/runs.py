"""MLflow runs found by a key of ours, so that whoever comes second finds the run of who came first.

Invariants: one run a key; a point that stands in a run's history already is not written again; a param is
never changed. This module and `traces` are all that touch MLflow's client.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sia_flow.track.entries import Point

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

BATCH = 900
"""Points in one call; MLflow's limit is 1000."""
SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run as it was when it was opened."""

    id: str
    fresh: bool
    """Whether it was made just now, and so holds nothing."""
    tags: Mapping[str, str]


class Runs:
    """The runs of one MLflow experiment."""

    def __init__(self, uri: str, artifacts: Path, experiment: str) -> None:
        from mlflow.tracking import MlflowClient

        if uri.startswith(SQLITE):
            _prepare_database(Path(uri.removeprefix(SQLITE)))
        self.uri = uri
        self.client: MlflowClient = MlflowClient(tracking_uri=uri, registry_uri=uri)
        # A server decides itself where its artifacts lie.
        location = str(artifacts.resolve()) if uri.startswith(SQLITE) else None
        self.experiment_id = _experiment(self.client, experiment, location)
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def open(self, key: str, name: str, tags: Mapping[str, str], parent: str | None = None) -> RunEntry:
        """Return the run of `key`, or begin one."""
        with self._lock:
            found = self._find(key)
            if found is not None:
                if found.info.status in ("KILLED", "FAILED"):
                    self.client.update_run(found.info.run_id, status="RUNNING")
                return RunEntry(found.info.run_id, fresh=False, tags=dict(found.data.tags))
            own = {"sia.key": key} | ({"mlflow.parentRunId": parent} if parent else {})
            run = self.client.create_run(self.experiment_id, tags={**tags, **own}, run_name=name)
            self._known[key] = run.info.run_id
            return RunEntry(run.info.run_id, fresh=True, tags=dict(run.data.tags))

    def find(self, key: str) -> str | None:
        """Return MLflow's id of the run of `key`, None where there is none."""
        with self._lock:
            found = self._find(key)
        return found.info.run_id if found else None

    def supersede(self, key: str) -> None:
        """Give up the run of `key`, whose content is of another record; it stays, under another key."""
        with self._lock:
            found = self._find(key)
            if found is not None:
                self.client.set_tag(found.info.run_id, "sia.key", f"{key}/superseded")
                self.client.set_terminated(found.info.run_id, "KILLED")
                del self._known[key]

    def halt(self, key: str, mark: str, status: str) -> None:
        """End the run of `key` and its open children with a status; one with the tag of a whole run stays as it is."""
        with self._lock:
            found = self._find(key)
        if found is None:
            return
        children = f"tags.`mlflow.parentRunId` = '{found.info.run_id}' and attributes.status = 'RUNNING'"
        for child in self.client.search_runs([self.experiment_id], children):
            self.client.set_terminated(child.info.run_id, status)
        if mark not in found.data.tags:
            self.client.set_terminated(found.info.run_id, status)

    def write(
        self,
        run: RunEntry,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write what the run does not hold yet."""
        from mlflow.entities import Metric, Param, RunTag

        held_params: Mapping[str, str] = {}
        if not run.fresh:
            data = self.client.get_run(run.id).data
            held_params, points = data.params, self._missing(run.id, points, set(data.metrics))
        now = int(time.time() * 1000)
        metrics = [Metric(point.key, point.value, now, point.step) for point in points]
        new = [Param(name, text) for name, text in (params or {}).items() if name not in held_params]
        for chunk in _chunks(new, 100):
            self.client.log_batch(run.id, params=chunk)
        for chunk in _chunks(metrics, BATCH):
            self.client.log_batch(run.id, metrics=chunk)
        for chunk in _chunks([RunTag(name, text) for name, text in (tags or {}).items()], 100):
            self.client.log_batch(run.id, tags=chunk)

    def finish(self, run: RunEntry, mark: str, value: str) -> None:
        """Set the tag that says that the run holds all of its record, and end it."""
        self.client.set_tag(run.id, mark, value)
        self.client.set_terminated(run.id, "FINISHED")

    def _missing(self, run_id: str, points: Sequence[Point], held: set[str]) -> list[Point]:
        history: dict[str, set[tuple[int, float]]] = defaultdict(set)
        for key in {point.key for point in points} & held:
            history[key] = {(m.step, m.value) for m in self.client.get_metric_history(run_id, key)}
        return [point for point in points if (point.step, point.value) not in history[point.key]]

    def _find(self, key: str) -> Run | None:
        if key in self._known:
            return self.client.get_run(self._known[key])
        found = self.client.search_runs([self.experiment_id], f"tags.`sia.key` = '{key}'", max_results=1)
        if not found:
            return None
        self._known[key] = found[0].info.run_id
        return found[0]


def _experiment(client: MlflowClient, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process made it between the two calls; any other fault shows again below.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _prepare_database(path: Path) -> None:
    # In write-ahead mode six writing processes take 8 s rather than 20 s, and readers never wait.
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=20)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
