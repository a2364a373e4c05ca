"""What makes an experiment itself: its resolved form and the digest of it.

Invariant: notes, tracking, the schedule and approval gates change no record, so they change no digest.
"""

from __future__ import annotations

from typing import Any

from sia_flow.canonical import digest
from sia_flow.spec.models import Experiment


def resolved_json(experiment: Experiment) -> dict[str, Any]:
    """Return the whole spec as JSON, every default filled, durations in seconds, sizes in bytes."""
    return experiment.model_dump(mode="json")


def experiment_digest(experiment: Experiment) -> str:
    """Return the SHA-256 of the resolved spec without its description, labels, tracking, schedule and gates."""
    return digest(essence(resolved_json(experiment)))


def essence(resolved: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved spec without what changes no result."""
    spec = {key: value for key, value in resolved["spec"].items() if key not in {"track", "schedule", "approve"}}
    return {**resolved, "metadata": {"name": resolved["metadata"]["name"]}, "spec": spec}
