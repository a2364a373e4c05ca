"""`sia-flow track sync`: MLflow rebuilt from the store, for runs that it missed or another tracker."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory
from sia_flow.errors import InfrastructureError, SpecError

if TYPE_CHECKING:
    from sia_flow.lineage.heads import Head
    from sia_flow.lineage.store import Store
    from sia_flow.loop.tracking import Tracking
    from sia_flow.loop.view import FolderView
    from sia_flow.plan.project import Project


class Action(StrEnum):
    """What to do with the tracker."""

    sync = "sync"


def command(
    action: Annotated[Action, typer.Argument(help="`sync`: show in MLflow all that the store holds.")],
    what: Annotated[str | None, typer.Argument(metavar="[SPEC|NAME]", help="Nothing: every experiment.")] = None,
    *,
    uri: Annotated[str | None, typer.Option(help="Another MLflow: sqlite:////abs/x.db, http://...")] = None,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Rebuild MLflow from the store: after a tracker was down or deleted, or to fill another one.

    What MLflow shows already is not written twice. Runs that a killed process left Running are ended, unless the
    experiment is running now. Exit code 7 when MLflow takes it in part only.

    Examples: sia-flow track sync; sia-flow track sync denoise --uri http://team:5000
    """
    from sia_flow.cli.lookup import experiment_name, of_experiment, open_store
    from sia_flow.lineage.heads import heads
    from sia_flow.track.environment import quiet_environment

    del action
    project, store = open_store(directory)
    os.environ.update(quiet_environment(project.state))
    found = of_experiment(store, experiment_name(what)) if what else heads(store)
    counts = {}
    for name in dict.fromkeys(head.experiment for head in found):
        counts[name] = _sync(project, store, [head for head in found if head.experiment == name], uri)
        if not as_json:
            typer.echo(f"{name}: {counts[name]} generations are in MLflow")
    if as_json:
        typer.echo(json.dumps({"generations": counts}))


def _sync(project: Project, store: Store, own: Sequence[Head], uri: str | None) -> int:
    """Show the runs of one experiment again; return how many generations they have."""
    name = own[0].experiment
    known = [head for head in own if head.spec]
    if not known:
        raise SpecError(f"the spec of {name} is not in the store: apply it once more, then sync")
    for head in known:
        _show(project, store, head, uri)
    return sum(len(head.generations) for head in known)


def _show(project: Project, store: Store, head: Head, uri: str | None) -> None:
    """Show one run again. Raises InfrastructureError where MLflow does not take all of it."""
    from sia_flow.cli.recorded import experiment_of
    from sia_flow.cli.workbench import run_identity
    from sia_flow.lineage.locks import holder
    from sia_flow.loop.tracking import Tracking
    from sia_flow.loop.view import FolderView
    from sia_flow.track.mlflow import MlflowTracker, default_uri
    from sia_flow.track.safe import SafeTracker

    name, experiment = head.experiment, experiment_of(head)
    track = experiment.spec.track
    place = uri or track.uri or default_uri(project.root)
    safe = SafeTracker(lambda: MlflowTracker(place, project.artifacts / name, name, track.traces))
    folder = FolderView(store, project.runs, project.checkpoints, name)
    watcher = Tracking(safe, experiment, run_identity(experiment, project.root), store, folder)
    _replay(store, head, watcher, folder)
    if holder(project.locks, name) is None:
        watcher.halted("KILLED")
    if safe.dirty:
        raise InfrastructureError(f"MLflow at {place} misses part of {head.name}: {safe.reason}; then sync again")


def _replay(store: Store, head: Head, watcher: Tracking, folder: FolderView) -> None:
    for generation_id in head.generations:
        generation = store.generation(generation_id)
        # The adapter and the curves that are shown lie in the view, which may have been deleted.
        folder.generation(head.arm, generation)
        watcher.generation(head.arm, generation)
    result = store.arm(head.result) if head.result else None
    if result is not None:
        watcher.arm_ended(result)
