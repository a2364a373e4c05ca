"""The experiment without Prefect: the same steps, called one after the other. For tests, notebooks and fallback."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from flows.improve import control, improve
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.control import equal_draws
from sia_flow.loop.equal import dearest
from sia_flow.loop.events import Watcher
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Runner, run_local
from sia_flow.loop.stopping import Stop
from sia_flow.plan.project import Project
from sia_flow.spec.arms import run_order
from sia_flow.spec.models import Experiment
from sia_flow.spread.launcher import Launcher

Wrap = Callable[[ArmState, Callable[[], ArmResult]], ArmResult]


def run_experiment(
    experiment: Experiment,
    root: Path,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
    launcher: Launcher | None = None,
) -> list[ArmResult]:
    """Run an experiment in a project folder; return the arms' results. Raises SiaFlowError.

    `launcher` is one that was opened ahead for an experiment that is spread.
    """
    with Lab(experiment, root, Store(Project(root).store), watcher, stop) as lab:
        if lab.spec.spread is not None:
            from flows.spread import spread_arms

            return spread_arms(lab, launcher=launcher)
        return run_arms(lab, run_local, lambda _state, body: body())


def run_arms(lab: Lab, run: Runner, wrap: Wrap) -> list[ArmResult]:
    """Run every arm of every seed, those that spend as much as the dearest one after it."""
    results: list[ArmResult] = []
    for seed in lab.spec.seeds:
        leading: list[ArmResult] = []
        for arm in run_order(lab.spec.arms):
            state = ArmState(arm, seed)
            results.append(wrap(state, arm_body(lab, run, state, tuple(leading))))
            leading += results[-1:] if arm.turn == 0 else []
    return results


def arm_body(lab: Lab, run: Runner, state: ArmState, leading: tuple[ArmResult, ...]) -> Callable[[], ArmResult]:
    """Return what runs one arm and seed; `leading` are the results of its seed that others spend as much as."""
    if state.arm.control == "best-of-n":
        rollouts = equal_draws(lab.spec, lab.store, leading)
        return lambda: control(lab, run, state, rollouts)
    wall = lab.spec.budget.wall
    target = dearest(lab.spec, leading) if state.arm.spend == "dearest" else None
    return lambda: improve(lab, run, state, time.monotonic() + wall if wall is not None else None, target)
