"""A pull's state on disk, one folder an iteration: trained tensors, optimizer moments, metrics so far.

Invariant: a folder `steps/NNNNN` is whole or is not there; one whose digests do not match is passed over.
Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from sia_flow.canonical import Json, canonical_json, digest_bytes
from sia_flow.errors import TrainingError
from sia_flow.files import write_atomic

KIND = "sia-flow/pull@1"
_TENSORS = "tensors.safetensors"
_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state before iteration `iteration`, that is, after as many."""

    iteration: int
    updates: int
    steps: tuple[Mapping[str, float], ...]
    tensors: Mapping[str, Tensor]
    """Adapter under `adapter/NAME`, a critic under `critic/NAME`, moments under `exp_avg/NAME`, `exp_avg_sq/NAME` and
    `step/NAME`."""


class CheckpointStore:
    """The checkpoints of one pull, under `work/steps`."""

    def __init__(self, work: Path, fingerprint: str) -> None:
        self._folder = work / "steps"
        self._fingerprint = fingerprint

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; it is there after the rename, not before."""
        tensors = save({name: tensor.detach().cpu() for name, tensor in checkpoint.tensors.items()})
        state: dict[str, Json] = {
            "kind": KIND,
            "fingerprint": self._fingerprint,
            "iteration": checkpoint.iteration,
            "updates": checkpoint.updates,
            "steps": [dict(step) for step in checkpoint.steps],
            "tensors": digest_bytes(tensors),
        }
        place = self._place(checkpoint.iteration)
        fresh = place.with_name(f".{place.name}")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
        write_atomic(fresh / _TENSORS, tensors, sync=False)
        write_atomic(fresh / _STATE, canonical_json(state), sync=False)
        fresh.rename(place)

    def newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, None if there is none.

        Raises TrainingError if the folder belongs to a pull with other settings or from another adapter.
        """
        places = sorted(self._folder.glob("[0-9]*"), reverse=True)
        return next((found for place in places if (found := self._read(place)) is not None), None)

    def load(self, iteration: int) -> Checkpoint:
        """Return one checkpoint. Raises TrainingError if it is gone."""
        found = self._read(self._place(iteration))
        if found is None:
            raise TrainingError(f"checkpoint {self._place(iteration)} is missing or damaged; remove {self._folder}")
        return found

    def prune(self, keep: Iterable[int]) -> None:
        """Remove all checkpoints but those of the named iterations, and what a killed save left behind."""
        wanted = {self._place(iteration) for iteration in keep}
        for place in sorted(self._folder.iterdir()):
            if place not in wanted:
                shutil.rmtree(place)

    def _place(self, iteration: int) -> Path:
        return self._folder / f"{iteration:05d}"

    def _read(self, place: Path) -> Checkpoint | None:
        try:
            state = json.loads((place / _STATE).read_bytes())
            tensors = (place / _TENSORS).read_bytes()
        except (OSError, ValueError):
            return None
        if state.get("fingerprint") != self._fingerprint:
            raise TrainingError(
                f"{place} belongs to a pull with other settings or another start; use an empty work folder"
            )
        if state["kind"] != KIND or digest_bytes(tensors) != state["tensors"]:
            return None
        return Checkpoint(state["iteration"], state["updates"], tuple(state["steps"]), load(tensors))
