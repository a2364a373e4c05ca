"""What a worker is told when it starts: whose it is, which experiment, and where the project lies.

Invariant: an experiment comes out of a ticket as it went in, fields that its resolved form leaves out among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sia_flow.spec.models import Experiment
from sia_flow.spread.wire import Address


@dataclass(frozen=True, slots=True)
class Ticket:
    """One worker's beginning."""

    name: str
    address: Address
    root: Path
    """The project's folder, the same path on every machine."""
    experiment: Experiment
    prefect: str | None = None
    """URL of the Prefect server that shows the run."""

    def to_json(self) -> str:
        """Return the ticket as one line."""
        address = [self.address.host, self.address.port, self.address.secret]
        fields = {"name": self.name, "address": address, "root": str(self.root), "prefect": self.prefect}
        return json.dumps({**fields, "experiment": _whole(self.experiment)})

    @classmethod
    def from_json(cls, text: str) -> Ticket:
        """Return the ticket of a line."""
        fields = json.loads(text)
        experiment = Experiment.model_validate_json(json.dumps(fields["experiment"]))
        return cls(fields["name"], Address(*fields["address"]), Path(fields["root"]), experiment, fields["prefect"])


def _whole(value: Any) -> Any:
    """Return a model as plain values, with the fields that it keeps out of its JSON."""
    if isinstance(value, BaseModel):
        return {name: _whole(held) for name, held in value}
    if isinstance(value, Mapping):
        return {name: _whole(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(held) for held in value]
    return value
