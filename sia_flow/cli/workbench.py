"""What the commands that run or read experiments share: the project, the loaded specs, the plan."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from sia_flow.canonical import digest
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Generation
from sia_flow.lineage.store import Store
from sia_flow.loop.lab import Lab
from sia_flow.plan.forecast import ArmPlan, ReplayStore, forecast
from sia_flow.plan.project import Project
from sia_flow.spec.load import diff_specs, load_experiments, resolved_json
from sia_flow.spec.models import Experiment
from sia_flow.spec.places import whole_json
from sia_flow.verify.own_data import content_name, find_own


def open_experiments(spec: Path, overrides: Sequence[str]) -> Iterator[tuple[Project, Experiment]]:
    """Yield the experiments of a spec file with the project that it belongs to. Raises SpecError."""
    experiments = load_experiments(spec, overrides)
    project = Project.find(spec)
    if str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))
    for experiment in experiments:
        yield project, experiment


def run_identity(experiment: Experiment, root: Path) -> str:
    """Return the hash of what an experiment's results depend on, its arms, seeds and budget left out.

    The user's own data counts by its content and not by its path.
    """
    grows = {"approve", "arms", "seeds", "budget", "schedule", "track"}
    fields = experiment.spec.model_dump(mode="json", exclude=grows)
    data = experiment.spec.task.data
    if data is not None and (own := find_own(root, data)) is not None:
        fields["task"]["data"] = content_name(own)
    return digest([experiment.metadata.name, fields])


def announce_changes(project: Project, experiment: Experiment, console: Console) -> None:
    """Say what changed since the spec of this name was last applied, and remember it as it is now."""
    path = _resolved_spec(project, experiment.metadata.name)
    if path.exists():
        for change in diff_specs(json.loads(path.read_text(encoding="utf-8")), resolved_json(experiment)):
            console.print(
                f"spec changed: {change.path} {change.old} -> {change.new} ({change.effect})",
                markup=False,
                highlight=False,
            )
    remember(project, experiment)


def remember(project: Project, experiment: Experiment) -> None:
    """Keep a spec as applied: to compare the next one with, and to go on with."""
    name = experiment.metadata.name
    write_atomic(_resolved_spec(project, name), json.dumps(resolved_json(experiment), indent=2).encode())
    write_atomic(applied_spec(project, name), json.dumps(whole_json(experiment), indent=2).encode())


def _resolved_spec(project: Project, name: str) -> Path:
    return project.state / "specs" / f"{name}.json"


def applied_spec(project: Project, name: str) -> Path:
    """Return where the spec of an experiment is kept as it was last applied, with its addresses and workers."""
    return project.state / "applied" / f"{name}.json"


def plan_all(project: Project, experiment: Experiment) -> list[ArmPlan]:
    """Return the plan of every arm and seed, without running anything."""
    from flows.improve import control, improve

    with Lab(experiment, project.root, ReplayStore(project.store)) as lab:
        return forecast(lab, improve, control)


def history_of(project: Project, plan: ArmPlan) -> list[Generation]:
    """Return the generations of an arm that are stored, in order."""
    store = Store(project.store)
    return [store.generation(generation_id) for generation_id in plan.history]
