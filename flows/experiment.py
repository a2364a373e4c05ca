"""The experiment flow: every arm and seed of a spec, then the comparison.

`experiment` is the entry point that a deployment names and that `sia-flow apply` calls.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.local import run_arms
from flows.prefect_runner import PrefectArtifacts, publish_comparison, run_prefect
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.events import Several, Silent, Watcher
from sia_flow.loop.lab import Lab
from sia_flow.loop.stopping import Stop
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments


@dataclass(frozen=True, slots=True)
class Session:
    """Who watches a flow that runs in this process, and who may stop it."""

    watcher: Watcher = field(default_factory=Silent)
    stop: Stop = field(default_factory=Stop)


SESSION: ContextVar[Session | None] = ContextVar("SESSION", default=None)


def _run_name() -> str:
    return Path(flow_run.parameters["spec"]).stem


@flow(name="experiment", flow_run_name=_run_name, persist_result=False)
def experiment(spec: str, overrides: list[str] | None = None, index: int = 0) -> list[str]:
    """Run experiment number `index` of a spec file; return the keys of the arms' results."""
    project = Project.find(Path(spec))
    chosen = load_experiments(Path(spec), overrides or [])[index]
    session = SESSION.get() or Session()
    watcher = Several(session.watcher, PrefectArtifacts(chosen.metadata.name))
    with Lab(chosen, project.root, Store(project.store), watcher, session.stop) as lab:
        results = run_arms(lab, run_prefect, _as_subflow)
        publish_comparison(lab, results)
    return [result.key for result in results]


def _as_subflow(state: ArmState, body: Callable[[], ArmResult]) -> ArmResult:
    """Run an arm as a flow of its own, so that the Prefect UI shows it as one."""
    results: list[ArmResult] = []

    @flow(name="improve", flow_run_name=f"{state.arm.name} seed {state.seed}", persist_result=False)
    def improve_flow(arm: str, seed: int) -> str:
        del arm, seed
        results.append(body())
        return results[0].key

    improve_flow(state.arm.name, state.seed)
    return results[0]
