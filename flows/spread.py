"""An experiment's arms and seeds on several workers, where its spec asks for them.

Invariant: the records are those of one process; only who computes what, and when, is different.
"""

from __future__ import annotations

from pathlib import Path

from sia_flow.errors import SpecError, StoreError
from sia_flow.lineage.results import ArmResult
from sia_flow.loop.eventlog import log_path
from sia_flow.loop.lab import Lab
from sia_flow.plan.project import Project
from sia_flow.spec.models import Experiment, Spread
from sia_flow.spread.crew import Board, Crew, NoBoard, Run
from sia_flow.spread.launcher import Launcher
from sia_flow.spread.processes import Processes, cores, preloads


def spread_arms(
    lab: Lab, board: Board | None = None, prefect: str | None = None, launcher: Launcher | None = None
) -> list[ArmResult]:
    """Run every arm of every seed on workers; return the results in the order of one process. Raises SiaFlowError.

    `prefect` is the URL of the server that shows the run, `launcher` one that was opened ahead; it is closed here.
    """
    spread = lab.spec.spread or Spread()
    launcher = launcher or open_launcher(lab.experiment, lab.root, prefect=prefect is not None)
    run = Run(lab.experiment, lab.root, lab.store, lab.watcher, lab.stop, board or NoBoard(), prefect)
    crew = Crew(run, launcher, spread.jobs or launcher.seats)
    keys = crew.run()
    return [_result(lab, keys[job]) for job in crew.jobs.order]


def open_launcher(experiment: Experiment, root: Path, *, prefect: bool) -> Launcher:
    """Return what starts workers. Raises SiaFlowError where a library is not installed or no cluster answers."""
    spread = experiment.spec.spread or Spread()
    _demand_one_process_an_arm(experiment)
    if spread.type == "processes":
        return _processes(experiment, root, prefect=prefect)
    from sia_flow.spread.clusters import open_cluster

    return open_cluster(spread)


def opened_ahead(experiment: Experiment, root: Path, *, prefect: bool) -> Processes | None:
    """Return a launcher that imports what workers need from now on; None where workers are not this machine's."""
    if experiment.spec.spread is None or experiment.spec.spread.type != "processes":
        return None
    launcher = _processes(experiment, root, prefect=prefect)
    launcher.begin()
    return launcher


def _processes(experiment: Experiment, root: Path, *, prefect: bool) -> Processes:
    """Return the launcher of this machine. Raises SpecError."""
    spread = experiment.spec.spread or Spread()
    _demand_one_process_an_arm(experiment)
    if spread.address is not None:
        raise SpecError("spec.spread.address: only a cluster has an address: set spec.spread.type to dask or ray")
    modules = (*preloads(experiment), *(("flows.arm_flow", "flows.prefect_runner") if prefect else ()))
    return Processes(root, worker_log(experiment, root), spread.jobs or cores(), modules)


def _demand_one_process_an_arm(experiment: Experiment) -> None:
    if experiment.spec.training.engine == "fsdp":
        raise SpecError("training.engine fsdp has processes of its own for one arm at a time: leave spec.spread out")


def worker_log(experiment: Experiment, root: Path) -> Path:
    """Return the file that takes what workers print."""
    return log_path(Project(root).state, f"{experiment.metadata.name}.workers").with_suffix(".log")


def _result(lab: Lab, key: str) -> ArmResult:
    found = lab.store.arm(key)
    if found is None:
        raise StoreError(f"the result {key} of an arm is not in the store {lab.store.root} of this machine")
    return found
