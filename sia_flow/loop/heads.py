"""Keeps the heads of a run while it grows: which generations an arm and seed has, and what made them.

Invariant: what stands in a head is in the store already.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from sia_flow import __version__
from sia_flow.lineage.heads import Head, read_head, write_head
from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Silent
from sia_flow.spec.identity import resolved_json
from sia_flow.spec.models import Experiment

PACKAGES = ("numba", "numpy", "peft", "safetensors", "scipy", "tokenizers", "torch", "transformers", "trl")
"""What computes: another version of one of them may change a digit."""


class HeadKeeper(Silent):
    """Writes a head a generation; what follows a generation that changed is cut off."""

    def __init__(self, store: Store, experiment: Experiment) -> None:
        self.store = store
        self.experiment = experiment

    def generation(self, arm: str, generation: Generation) -> None:
        """Point to the generation."""
        head = self._head(arm, generation.seed)
        index = generation.index
        held = head.generations
        if held[index : index + 1] == (generation.id,):
            kept: tuple[str, ...] = held
        else:
            kept = (*held[:index], generation.id)
        result = head.result if kept == held else None
        self._write(head.model_copy(update={"generations": kept, "result": result, "inputs": self._inputs(generation)}))

    def arm_ended(self, result: ArmResult) -> None:
        """Point to the result."""
        head = self._head(result.arm, result.seed)
        self._write(head.model_copy(update={"generations": result.generations, "result": result.key}))

    def _head(self, arm: str, seed: int) -> Head:
        name = self.experiment.metadata.name
        found = next(entry for entry in self.experiment.spec.arms if entry.name == arm)
        held = read_head(self.store, name, arm, seed)
        return Head(
            experiment=name,
            arm=arm,
            seed=seed,
            levers=tuple(found.levers),
            control=found.control,
            generations=held.generations if held else (),
            result=held.result if held else None,
            spec=resolved_json(self.experiment),
            inputs=held.inputs if held else {},
            versions=versions(),
        )

    def _inputs(self, generation: Generation) -> Mapping[str, str]:
        own = {"data": generation.data, "verifier": generation.verifier, "base": generation.base}
        rollout = self.store.find(generation.steps["rollout train"])
        task = rollout.inputs.get("task") if rollout else None
        return own | ({"task": task} if task else {})

    def _write(self, head: Head) -> None:
        write_head(self.store, head)


def versions() -> dict[str, str]:
    """Return the versions of what computes in this process's environment."""
    found = {"python": platform.python_version(), "sia-flow": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
