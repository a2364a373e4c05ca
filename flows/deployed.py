"""The flow that a deployment names: one apply of a spec by a worker, on a schedule or from the form in the UI.

Invariant: it does what `sia-flow apply` does with the same overrides, so that a run which was cancelled in the UI, or
killed, goes on with the next one, wherever that is started.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.carrying import carried
from sia_flow.errors import Interrupted


def _run_name() -> str:
    started = flow_run.scheduled_start_time
    return f"{Path(flow_run.parameters['spec']).stem} {started:%Y-%m-%d %H:%M:%S}"


@flow(name="sia-flow", flow_run_name=_run_name, persist_result=False)
def scheduled(
    spec: str,
    generations: int | None = None,
    seeds: list[int] | None = None,
    overrides: list[str] | None = None,
) -> list[str] | State[Any]:
    """Run what is missing of an experiment; what is there already costs nothing.

    Args:
        spec: The experiment's YAML file.
        generations: Generations after the first, at most; empty: as the spec says.
        seeds: Every arm runs once for each seed; empty: as the spec says.
        overrides: Further fields, each as in --set: training.iterations=40.
    """
    keys: list[str] = []
    try:
        for found in _apply_all(Path(spec), list(settings(generations, seeds, overrides))):
            keys += found
    except Interrupted as stop:
        return Cancelled(message=str(stop))
    return keys


def settings(generations: int | None, seeds: list[int] | None, overrides: list[str] | None) -> Iterator[str]:
    """Yield the form's fields as overrides of the spec."""
    if generations is not None:
        yield f"spec.budget.generations={generations}"
    if seeds:
        yield f"spec.seeds={json.dumps(seeds)}"
    yield from overrides or ()


def _apply_all(spec: Path, overrides: list[str]) -> Iterator[list[str]]:
    from rich.console import Console

    from sia_flow.cli.running import Request, apply_experiment, prefect_server
    from sia_flow.cli.workbench import open_experiments
    from sia_flow.lineage.locks import experiment_lock

    for index, (project, experiment) in enumerate(open_experiments(spec, overrides)):
        request = Request(project, experiment, spec.resolve(), tuple(overrides), index)
        said = io.StringIO()
        with ExitStack() as stack:
            stack.enter_context(experiment_lock(project.locks, experiment.metadata.name))
            store = experiment.spec.pool.store if experiment.spec.pool else None
            stack.enter_context(carried(project.state, store, get_run_logger().info))
            stack.callback(_log, said)
            server = stack.enter_context(prefect_server(project))
            results = apply_experiment(request, Console(file=said, width=140), server, as_json=False)
        yield [result.key for result in results]


def _log(said: io.StringIO) -> None:
    """Show in the UI what a terminal would have shown."""
    text = said.getvalue().strip()
    if text:
        get_run_logger().info(text)
