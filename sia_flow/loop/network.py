"""What an experiment lets its scaffolds read, as its steps, its records and people see it.

Invariant: an experiment that grants nothing has the steps, keys and prompts that it had before there were grants.
"""

from __future__ import annotations

from sia_flow.canonical import digest
from sia_flow.spec.models import Experiment


def granted(experiment: Experiment) -> tuple[str, ...]:
    """Return the addresses that scaffolds may read, in order; none by default."""
    return tuple(entry.url for entry in experiment.spec.sandbox.network)


def network_inputs(experiment: Experiment) -> dict[str, str]:
    """Return what tells rollouts with a network from those without; empty for these."""
    entries = [entry.model_dump(mode="json") for entry in experiment.spec.sandbox.network]
    return {"network": digest(entries)} if entries else {}
