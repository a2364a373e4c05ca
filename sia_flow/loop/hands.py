"""The other workers of a run, as a step sees them: how many are free, and an offer that they may take parts of.

Invariant: whether anybody helps changes when a step ends and nothing of what it records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sia_flow.lineage.store import Store
from sia_flow.spec.models import Experiment


class Hands(Protocol):
    """The other workers of a run."""

    @property
    def free(self) -> int:
        """How many wait for something to do."""

    def offered(self, folder: Path) -> AbstractContextManager[None]:
        """Let them take parts of the offer in a folder while the block runs."""


def offers_dir(store: Store, experiment: Experiment) -> Path:
    """Return the folder of an experiment's offers; nothing in it outlives the run."""
    return store.root.parent / "offers" / experiment.metadata.name


class NoHands:
    """Nobody else."""

    free = 0

    @contextlib.contextmanager
    def offered(self, folder: Path) -> Iterator[None]:
        """Offer it to nobody."""
        del folder
        yield
