"""An experiment's arms and seeds on several workers, where its spec asks for them.

Invariant: the records are those of one process; only who computes what, and when, is different.
"""

from __future__ import annotations

from pathlib import Path

from sia_flow.errors import SpecError, StoreError
from sia_flow.lineage.results import ArmResult
from sia_flow.loop.eventlog import log_path
from sia_flow.loop.lab import Lab
from sia_flow.spec.models import Spread
from sia_flow.spread.crew import Board, Crew, NoBoard, Run
from sia_flow.spread.launcher import Launcher
from sia_flow.spread.processes import Processes, cores, preloads


def spread_arms(lab: Lab, board: Board | None = None, prefect: str | None = None) -> list[ArmResult]:
    """Run every arm of every seed on workers; return the results in the order of one process. Raises SiaFlowError."""
    spread = lab.spec.spread or Spread()
    launcher = open_launcher(lab, spread, prefect=prefect is not None)
    run = Run(lab.experiment, lab.root, lab.store, lab.watcher, lab.stop, board or NoBoard(), prefect)
    crew = Crew(run, launcher, spread.jobs or launcher.seats)
    keys = crew.run()
    return [_result(lab, keys[job]) for job in crew.jobs.order]


def open_launcher(lab: Lab, spread: Spread, *, prefect: bool) -> Launcher:
    """Return what starts workers. Raises SiaFlowError where a library is not installed or no cluster answers."""
    if lab.spec.training.engine == "fsdp":
        raise SpecError("training.engine fsdp has processes of its own for one arm at a time: leave spec.spread out")
    if spread.type == "processes" and spread.address is not None:
        raise SpecError("spec.spread.address: only a cluster has an address: set spec.spread.type to dask or ray")
    if spread.type == "processes":
        jobs = spread.jobs or cores()
        modules = (*preloads(lab.experiment), *(("flows.arm_flow", "flows.prefect_runner") if prefect else ()))
        return Processes(lab.root, worker_log(lab), jobs, modules)
    from sia_flow.spread.clusters import open_cluster

    return open_cluster(spread)


def worker_log(lab: Lab) -> Path:
    """Return the file that takes what workers print."""
    return log_path(lab.store.root.parent, f"{lab.experiment.metadata.name}.workers").with_suffix(".log")


def _result(lab: Lab, key: str) -> ArmResult:
    found = lab.store.arm(key)
    if found is None:
        raise StoreError(f"the result {key} of an arm is not in the store {lab.store.root} of this machine")
    return found
