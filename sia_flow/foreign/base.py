"""What the verifiers of imported tasks share: identity, one warm sandbox, and how a reply becomes a verdict.

Invariant: a reply is judged by its numbers alone; a reply that is none, or breaks its bounds, earns the floor with a
reason.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import Json, digest, digest_bytes
from sia_flow.errors import TaskError
from sia_flow.foreign.runner import INSIDE, Reply, Runner, open_runner, read_folder, standins
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import ArraySpec, Instance

NO_ARRAY = ArraySpec((0,))


class ForeignVerifier:
    """A verifier whose scores come from a folder that somebody else wrote. Tasks set the class attributes."""

    folder: ClassVar[Path]
    """The evaluator's files."""
    file: ClassVar[str] = ""
    """The evaluator, inside the folder."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Installed packages that it imports."""
    metric: ClassVar[str] = "score"
    """The number that is the reward."""
    lower_is_better: ClassVar[bool] = False
    """Whether the reward is 1 / (1 + metric)."""
    floor: ClassVar[float] = 0.0
    guards_block: ClassVar[bool] = False

    def __init__(self, mode: str, data_dir: Path) -> None:
        self.mode = mode
        self.data_dir = data_dir
        self._meta = read_meta(data_dir)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the evaluator's files, the harness, and the settings that decide a score."""
        files = {name: digest_bytes(data) for name, data in {**standins(), **self._files()}.items()}
        harness = digest_bytes((INSIDE / "harness.py").read_bytes())
        settings: list[Json] = [
            self.mode,
            self.file,
            list(self.packages),
            self.metric,
            self.lower_is_better,
            self.floor,
        ]
        return digest([type(self).__mro__[1].__name__, files, harness, settings])

    @property
    def data_digest(self) -> str:
        """Hash of the prepared data."""
        return digest(self._meta)

    def baselines(self, instance: Instance) -> Mapping[str, Verdict]:
        """Return no baselines: a foreign task brings none."""
        del instance
        return {}

    def score(self, instance: Instance, output: NDArray[np.float64]) -> Verdict:
        """Refuse an array: answers to foreign tasks are texts."""
        del instance, output
        return self.failure("bad_result", "the answer must be a text")

    def guards(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return no guards."""
        del metrics
        return {}

    @functools.cached_property
    def runner(self) -> Runner:
        """The sandbox that holds the evaluator's folder; it ends with the process."""
        return open_runner(self._files(), self.packages)

    def verdict(self, reply: Reply) -> Verdict:
        """Return the verdict of a reply."""
        value = reply.value
        if value is None:
            return self.failure(reply.reason, reply.error)
        if "invalid" in value:
            return self.failure("invalid", str(value["invalid"]))
        metrics = {str(name): float(number) for name, number in dict(value.get("metrics", {})).items()}
        words = str(value.get("feedback", ""))[:2000]
        if value.get("correct") is False:
            return self.failure("incorrect", words, metrics)
        found = self._reward(metrics)
        if found is None:
            return self.failure("no_metric", words or f"the evaluator gave no number {self.metric!r}", metrics)
        return Verdict(reward=found, valid=True, metrics=metrics, feedback=words)

    def failure(self, reason: str, words: str, metrics: Mapping[str, float] | None = None) -> Verdict:
        """Return the verdict of an answer that is refused."""
        return Verdict(reward=self.floor, valid=False, reason=reason, feedback=words, metrics=dict(metrics or {}))

    def _reward(self, metrics: Mapping[str, float]) -> float | None:
        value = metrics.get(self.metric)
        if value is None or not self.lower_is_better:
            return value
        return None if value < 0 else 1.0 / (1.0 + value)

    def _files(self) -> Mapping[str, bytes]:
        return read_folder(self.folder) if self.file or self.folder.is_dir() else {}


def make_instance(name: str, split: Split, public: Mapping[str, Any]) -> Instance:
    """Return an instance whose answer is a text."""
    return Instance(id=name, split=split, public=public, arrays={}, returns=NO_ARRAY, private={})


def read_meta(data_dir: Path) -> dict[str, Any]:
    """Return what a prepared data set says about itself. Raises TaskError that says how to prepare it."""
    try:
        meta = json.loads((data_dir / "meta.json").read_bytes())
    except (OSError, ValueError) as error:
        raise TaskError(f"{data_dir} holds no prepared data: run `sia-flow task import` again") from error
    if not isinstance(meta, dict):
        raise TaskError(f"{data_dir}/meta.json is no object: run `sia-flow task import` again")
    return meta
