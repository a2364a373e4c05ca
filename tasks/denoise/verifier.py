"""Scores denoised counts by molecular cross-validation, in three modes.

`guarded`: mse_norm where the corrected Poisson norm stays within 0.02 of MAGIC's on the same instance, else
nothing. `sia`: mse_norm alone, as the paper has it. `ttt`: mse_norm behind the shipped (swapped) Poisson
gate of 0.97. Invariant: test molecules and the truth stay in `private`; nothing that leaves here is
computed from them but scores.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import derive_seed, digest, digest_bytes
from sia_flow.errors import TaskError
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import ArraySpec, Instance
from tasks.denoise import data, mcv, scoring
from tasks.denoise.baselines import BASELINES, magic

MODES = ("guarded", "sia", "ttt")
SLACK = 0.02
SHIPPED_GATE = 0.97
SOURCES = ("verifier.py", "scoring.py", "passes.py", "mcv.py", "baselines.py", "single.py", "kit.py")


class DenoiseVerifier:
    """The verifier of one mode on one prepared data set."""

    floor = 0.0

    def __init__(self, mode: str, data_dir: Path) -> None:
        if mode not in MODES:
            raise TaskError(f"denoise has no mode {mode!r}; it has {', '.join(MODES)}")
        self.mode = mode
        self._data = data.load(data_dir)
        self._references: dict[str, scoring.Reference] = {}
        self._magic: dict[str, float] = {}

    @property
    def guards_block(self) -> bool:
        """Whether a broken guard refuses a generation; the other modes report the margin and go on."""
        return self.mode == "guarded"

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the sources that decide a score, and of the mode."""
        folder = Path(__file__).parent
        return digest([self.mode, *(digest_bytes((folder / name).read_bytes()) for name in SOURCES)])

    @property
    def data_digest(self) -> str:
        """Hash of the prepared data set."""
        return self._data.digest

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` divisions of the split's cells, each by molecules of its own seed.

        The division's seed hangs on the data digest, which no candidate is told, so that it cannot be
        replayed.
        """
        return tuple(self._instance(split, seed, index) for index in range(count))

    def visible(self, instance: Instance) -> Instance:
        """Return the twin that divides the instance's train molecules again; nothing private goes into it."""
        counts = np.rint(instance.arrays["counts"]).astype(np.int64)
        halves = mcv.divide(counts, derive_seed("visible", instance.id) % 2**32)
        return _make(f"{instance.id}/visible", instance.split, {**instance.public, "visible": True}, halves, None)

    def score(self, instance: Instance, output: NDArray[np.float64]) -> Verdict:
        """Score the matrix [cells, genes] that a program returned for the instance's counts."""
        reference = self._reference(instance)
        reason = scoring.reject(output, instance.returns.shape, reference.train_sum)
        if reason is not None:
            return Verdict(reward=self.floor, valid=False, reason=reason, feedback=EXPLANATIONS[reason])
        metrics = scoring.measure(output, reference)
        metrics["poisson_margin"] = metrics["poisson_norm"] - (self._magic_poisson(instance) - SLACK)
        broken = self._gate(instance, output, metrics)
        if broken is not None:
            return Verdict(reward=self.floor, valid=False, reason="guard", metrics=metrics, feedback=broken)
        words = f"mse_norm {metrics['mse_norm']:.4f}, guard margin {metrics['poisson_margin']:+.4f}"
        return Verdict(reward=metrics["mse_norm"], valid=True, metrics=metrics, feedback=words)

    def baselines(self, instance: Instance) -> Mapping[str, Verdict]:
        """Return the verdicts of MAGIC at its published settings and of the identity."""
        counts = instance.arrays["counts"]
        return {name: self.score(instance, method(counts)) for name, method in BASELINES.items()}

    def guards(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return the Poisson guard's margin; nothing where no answer was valid."""
        return {"poisson": metrics["poisson_margin"]} if "poisson_margin" in metrics else {}

    def _instance(self, split: Split, seed: int, index: int) -> Instance:
        rows = self._data.cells[split]
        halves = mcv.divide(self._data.counts[rows], derive_seed("mcv", self.data_digest, split, seed, index) % 2**32)
        truth = None if self._data.truth is None else self._data.truth[np.ix_(rows, halves.genes)]
        public = {"task": "denoise", "mode": self.mode, "data": self._data.name}
        return _make(f"{self._data.name}/{split}/{seed}/{index}", split, public, halves, truth)

    def _gate(self, instance: Instance, output: NDArray[np.float64], metrics: dict[str, float]) -> str | None:
        """Return why the mode's gate refuses an output, or None; `ttt` adds the norm that it looks at."""
        if self.mode == "guarded" and metrics["poisson_margin"] < 0:
            norm, missing = metrics["poisson_norm"], -metrics["poisson_margin"]
            return f"guard broken: poisson_norm {norm:.4f} is {missing:.4f} below what is allowed"
        if self.mode == "ttt":
            counts, reference = instance.arrays["counts"], self._reference(instance)
            shipped = scoring.shipped_poisson_norm(output, counts, reference)
            metrics["poisson_norm_shipped"] = shipped
            if shipped < SHIPPED_GATE:
                return f"gate broken: the shipped poisson_norm {shipped:.4f} is below {SHIPPED_GATE}"
        return None

    def _reference(self, instance: Instance) -> scoring.Reference:
        if instance.id not in self._references:
            self._references[instance.id] = scoring.make_reference(
                instance.arrays["counts"], instance.private["test"], instance.private.get("truth")
            )
        return self._references[instance.id]

    def _magic_poisson(self, instance: Instance) -> float:
        if instance.id not in self._magic:
            found = scoring.measure(magic(instance.arrays["counts"]), self._reference(instance))
            self._magic[instance.id] = found["poisson_norm"]
        return self._magic[instance.id]


def _make(
    name: str, split: Split, public: Mapping[str, Any], halves: mcv.Halves, truth: NDArray[np.float64] | None
) -> Instance:
    cells, genes = halves.train.shape
    return Instance(
        id=name,
        split=split,
        public={**public, "cells": cells, "genes": genes},
        arrays={"counts": halves.train},
        returns=ArraySpec((cells, genes)),
        private={"test": halves.test} if truth is None else {"test": halves.test, "truth": truth},
    )


EXPLANATIONS = {
    "bad_shape": "the output must be a float64 matrix of the shape of counts",
    "non_finite": "the output holds NaN or infinite values",
    "negative": "the output holds negative values",
    "all_zero": "the output is zero everywhere",
    "too_large": "the output holds a value above the sum of all counts",
}
