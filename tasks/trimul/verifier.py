"""Scores programs for the triangle multiplicative update by their speed-up over a literal reference.

Invariants: a program earns something only where every one of its calls was right; inputs, weights included, are new
at every call and drawn by a secret; the reference is called beside the program on the same inputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_flow.canonical import derive_seed, digest, digest_bytes
from sia_flow.errors import TaskError
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import ArraySpec, Instance
from sia_flow.verify.timed import Fault, TimedCase, TimedPlan, Timing
from tasks.trimul import data, gpu
from tasks.trimul.cases import CHECKS, TIMED, Case, draw

MODES = ("cpu", "gpu")
PAPER_SCALE = 0.105
"""Reward of the paper's first program, whose speed-up is 1."""
TOLERANCE = 1e-3
"""|out - ref| may be this much, plus this share of |ref|: float32 passes with room, float16 does not."""
SHAPES = 2
"""Timed shapes of an instance."""
REPEATS: Mapping[Split, int] = {"train": 7, "select": 11, "sealed": 15}
SESSIONS: Mapping[Split, int] = {"train": 1, "select": 1, "sealed": 3}
"""What is reported is measured longest: 7 rounds repeat within about 3 %, 3 x 15 within 1 % (docs/trimul.md)."""
SOURCES = ("verifier.py", "cases.py", "kit.py", "ladder/reference.py")


class TriMulVerifier:
    """The verifier of the CPU form. Raises TaskError, with the reason, for the GPU form."""

    floor = 0.0
    guards_block = False

    def __init__(self, mode: str, data_dir: Path) -> None:
        if mode not in MODES:
            raise TaskError(f"trimul has no mode {mode!r}; it has {', '.join(MODES)}")
        if mode == "gpu":
            raise TaskError(f"trimul, mode gpu: {gpu.why_not() or gpu.BY_HAND}")
        self.mode = mode
        self._secret = data.load(data_dir)
        self._cases = {case.name: case for cases in (CHECKS, *TIMED.values()) for case in cases}

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the sources that decide a score."""
        folder = Path(__file__).parent
        return digest([self.mode, *(digest_bytes((folder / name).read_bytes()) for name in SOURCES)])

    @property
    def data_digest(self) -> str:
        """Hash of the shapes and the secret."""
        return self._secret

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` instances, each of two of the split's shapes in turn."""
        found = []
        for index in range(count):
            cases = [TIMED[split][(SHAPES * index + k) % len(TIMED[split])] for k in range(SHAPES)]
            public = {"task": "trimul", "mode": self.mode, "shapes": [case.name for case in cases]}
            found.append(Instance(f"trimul/{split}/{seed}/{index}", split, public, {}, ArraySpec(())))
        return tuple(found)

    def visible(self, instance: Instance) -> Instance:
        """Return the twin of the same shapes: its inputs are drawn apart, and its times are measured apart."""
        public = {**instance.public, "visible": True}
        return Instance(f"{instance.id}/visible", instance.split, public, {}, ArraySpec(()))

    def score(self, instance: Instance, output: NDArray[np.float64]) -> Verdict:
        """Refuse: an array says nothing of how long it took. Raises TaskError."""
        del output
        raise TaskError(f"{instance.id}: an answer of trimul is a program that has to be timed, not an array")

    def baselines(self, instance: Instance) -> Mapping[str, Verdict]:
        """Return the reference's verdict, which is one by definition."""
        del instance
        return {"reference": Verdict(reward=PAPER_SCALE, valid=True, metrics={"speedup": 1.0})}

    def guards(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return no margin: the task has no guard."""
        del metrics
        return {}

    def reference(self) -> str:
        """Return the program that answers are compared with and times are measured against."""
        return (Path(__file__).parent / "ladder" / "reference.py").read_text(encoding="utf-8")

    def plan(self, instance: Instance) -> TimedPlan:
        """Return what a program is called on; what is reported is measured longest."""
        timed = tuple(_timed(self._cases[name]) for name in instance.public["shapes"])
        split = instance.split
        return TimedPlan(tuple(map(_timed, CHECKS)), timed, REPEATS[split], SESSIONS[split])

    def inputs(self, case: TimedCase, seed: int) -> Mapping[str, NDArray[np.float32]]:
        """Draw a call's inputs; the seed is mixed with the secret."""
        return draw(self._cases[case.name], derive_seed("trimul", self._secret, case.name, seed))

    def fault(self, output: NDArray[np.float32], expected: NDArray[np.float32]) -> Fault | None:
        """Return what is wrong with an output, or None."""
        if not np.isfinite(output).all():
            return Fault("non_finite", "the output holds NaN or infinite values, or was not written")
        error = np.abs(output - expected) - TOLERANCE * np.abs(expected)
        if (worst := float(error.max())) <= TOLERANCE:
            return None
        wrong = float((error > TOLERANCE).mean())
        return Fault(
            "wrong", f"{100 * wrong:.0f} % of the output is off by more than 0.001 + 0.1 % ({worst:.3g} at most)"
        )

    def verdict(self, timings: Sequence[Timing]) -> Verdict:
        """Return the verdict of a program that was right in every call."""
        gain = math.exp(sum(math.log(t.speedup) for t in timings) / len(timings))
        micros = math.exp(sum(math.log(1e6 * t.seconds) for t in timings) / len(timings))
        metrics = {"speedup": gain, "us": micros, **{f"speedup/{t.case}": t.speedup for t in timings}}
        words = f"speed-up {gain:.2f} over the reference, {micros:.0f} us a call"
        return Verdict(reward=PAPER_SCALE * gain, valid=True, metrics=metrics, feedback=words)


def _timed(case: Case) -> TimedCase:
    return TimedCase(case.name, case.form())
