"""Prefect's side of the loop: a step as a task run, a generation as an artifact.

Invariant: the store decides whether a step runs; Prefect shows it (state `Cached` where it has a record), retries
infrastructure faults, and never sees a rollout's content.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed

from sia_flow.errors import InfrastructureError, Interrupted
from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import StepRecord, Store
from sia_flow.loop.events import Silent
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared, execute
from sia_flow.report.markdown import decision_report
from sia_flow.report.published import beside, published_for
from sia_flow.report.table import final_table
from sia_flow.report.text import plain


def run_prefect(lab: Lab, prepared: Prepared) -> StepRecord:
    """Run a step as a Prefect task of the running flow."""

    stopped: list[Interrupted] = []

    @task(
        name=prepared.name,
        task_run_name=f"{prepared.name}: {prepared.label}",
        retries=2,
        retry_delay_seconds=[1, 5],
        retry_condition_fn=_is_infrastructure,
        tags=tags_of(lab, prepared),
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def body(key: str, label: str) -> State[str]:
        del label
        name = "Cached" if lab.store.find(key) is not None else "Completed"
        try:
            execute(lab, prepared)
        except Interrupted as stop:
            stopped.append(stop)
            return Cancelled(message=str(stop))
        return Completed(name=name, message=f"record {key}", data=key)

    ended = body(prepared.step.key, prepared.label, return_state=True)
    if stopped:
        raise stopped[0]
    if not ended.is_completed():
        ended.result()
    record = lab.store.find(prepared.step.key)
    if record is None:
        raise InfrastructureError(f"{prepared.label}: the step ended without a record in {lab.store.root}")
    return record


def tags_of(lab: Lab, prepared: Prepared) -> set[str]:
    """Return the tags of a step's task: `gpu` where it samples or trains on one, `api` where it asks a paid provider.

    `sia-flow deploy` sets how many tasks of a tag may run at once, over all flows of the server.
    """
    agents = lab.spec.agents
    meta, feedback = agents.meta.type, agents.feedback.type
    asks = {"scaffold synth": meta, "feedback": feedback, "unaided": feedback}.get(prepared.name, "builtin")
    if asks not in ("builtin", "learned"):
        return {"api"}
    return {"gpu"} if prepared.name in ("rollout", "train-LoRA") and _has_gpu() else set()


@cache
def _has_gpu() -> bool:
    try:
        from torch import cuda
    except ImportError:
        return False
    return bool(cuda.is_available())


def _is_infrastructure(_task: Any, _run: Any, state: State[Any]) -> bool:
    found = state.result(raise_on_failure=False)
    return isinstance(found, InfrastructureError)


class PrefectArtifacts(Silent):
    """Writes a decision report for each generation into the Prefect UI."""

    def __init__(self, store: Store, experiment: str) -> None:
        self.store = store
        self.experiment = experiment

    def generation(self, arm: str, generation: Generation) -> None:
        """Publish the generation's report as a Markdown artifact of the running flow."""
        key = artifact_key(self.experiment, arm, f"seed-{generation.seed}", f"gen-{generation.index}")
        report = decision_report(arm, generation, first=self.store.first(generation))
        create_markdown_artifact(report, key=key, description=generation.verdict)
        get_run_logger().info(
            "%s seed %d gen %d: select %.4f +- %.4f, %s",
            *(arm, generation.seed, generation.index, generation.select.mean, generation.select.se),
            plain(generation.verdict),
        )


def publish_comparison(lab: Lab, results: list[ArmResult]) -> None:
    """Publish the comparison of all arms as a table artifact."""
    key = artifact_key(lab.experiment.metadata.name, "comparison")
    metadata, task = lab.experiment.metadata, lab.spec.task.name
    cited = published_for(lab.root, metadata.model_dump(), task)
    rows = beside(final_table(results), cited[1] if cited else None)
    create_table_artifact(rows, key=key, description="All arms: select, sealed, controls, baselines")


def artifact_key(*parts: str) -> str:
    """Return an artifact key as Prefect wants it: lower case, digits and dashes."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)
