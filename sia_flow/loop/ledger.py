"""The ledger that an experiment's decisions see: pinned once, as a step, when the first of them is made.

Invariant: all arms and seeds of an experiment, and a longer or wider run of it later, see the same rows; an
experiment whose science differs, or that has another name, pins rows of its own.
"""

from __future__ import annotations

from typing import Any

from sia_flow.agents.ledger import ledger_rows
from sia_flow.lineage.jsonl import dump_lines, load_lines
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared, Runner

GROWS = {"approve", "arms", "seeds", "budget", "schedule", "track"}
"""Sections of a spec that may change while the experiment stays the same."""


def pinned_ledger(lab: Lab, run: Runner) -> str | None:
    """Return the object id of the experiment's ledger, pinning it now if that is the first use.

    None where the agent reads none.
    """
    if lab.spec.agents.feedback.type == "builtin":
        return None
    name = lab.experiment.metadata.name
    step = Step("ledger", 1, {"experiment": name, "spec": _science(lab)}, lab.inputs, 0)
    return run(lab, Prepared("feedback", f"ledger of {name}", step, lambda: _snapshot(lab))).outputs["ledger"]


def rows_of(lab: Lab, ledger: str | None) -> list[LedgerRow]:
    """Return the rows of a pinned ledger."""
    return [] if ledger is None else load_lines(lab.store.objects.get_bytes(ledger), LedgerRow)


def _snapshot(lab: Lab) -> StepOutput:
    rows = ledger_rows(lab.store)
    return StepOutput({"ledger": lab.store.objects.put_bytes(dump_lines(rows))}, {"rows": len(rows)})


def _science(lab: Lab) -> dict[str, Any]:
    spec = lab.spec.model_dump(mode="json", exclude=GROWS)
    return {**spec, "rollouts": {name: v for name, v in spec["rollouts"].items() if name != "workers"}}
