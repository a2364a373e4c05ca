"""The user's word that finished arms may read their sealed split once more, put on record before they go on."""

from __future__ import annotations

from rich.console import Console

from sia_flow.cli.workbench import plan_all
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.lab import Lab
from sia_flow.loop.sealed import allow_again
from sia_flow.plan.project import Project
from sia_flow.spec.models import Experiment


def allow_reading_again(project: Project, experiment: Experiment, console: Console) -> None:
    """Allow it to the arms that have work to do, and say which they are."""
    open_ones = [plan for plan in plan_all(project, experiment) if plan.result is None]
    arms = {arm.name: arm for arm in experiment.spec.arms}
    states = [ArmState(arms[plan.arm], plan.seed) for plan in open_ones]
    with Lab(experiment, project.root, Store(project.store)) as lab:
        for name in allow_again(lab, states):
            console.print(
                f"{name} may read its sealed split again; this stays on record", markup=False, highlight=False
            )
