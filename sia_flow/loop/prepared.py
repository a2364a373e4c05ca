"""A step ready to run: what names it and what it does. Who runs it, a plain call or a Prefect task, is open."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from sia_flow.errors import InfrastructureError
from sia_flow.lineage.store import Step, StepOutput, StepRecord
from sia_flow.loop.lab import Lab

TaskName = Literal["scaffold synth", "rollout", "verify", "feedback", "train-LoRA", "select program", "unaided"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One step of the loop."""

    name: TaskName
    label: str
    """What a person reads: `SIA-H seed 0 gen 2 select`."""
    step: Step
    body: Callable[[], StepOutput]
    total: int | None = None
    """Units of work, for the progress bar."""


class Runner(Protocol):
    """Runs prepared steps, each at most once."""

    def __call__(self, lab: Lab, prepared: Prepared) -> StepRecord:
        """Return the step's record, running its body only if there is none."""


def execute(lab: Lab, prepared: Prepared) -> StepRecord:
    """Run a step against the store and tell the watcher; where another process is at it, wait for its record."""
    ran = []

    def body() -> StepOutput:
        ran.append(prepared.step.key)
        lab.watcher.step_started(prepared.name, prepared.label, prepared.total)
        return prepared.body()

    record = lab.store.find(prepared.step.key)
    if record is None:
        lab.stop.obey()
        record = lab.store.run(prepared.step, body, lab.stop.obey)
    lab.watcher.step_ended(prepared.name, prepared.label, cached=not ran)
    return record


def run_local(lab: Lab, prepared: Prepared, attempts: int = 3) -> StepRecord:
    """Run a step here, with retries for infrastructure faults only."""
    for attempt in range(1, attempts):
        try:
            return execute(lab, prepared)
        except InfrastructureError as error:
            lab.watcher.warning(f"{prepared.label}: {error} (attempt {attempt} of {attempts})")
            time.sleep(attempt)
    return execute(lab, prepared)
