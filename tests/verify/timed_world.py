"""A timed task that costs nothing to check: return twice the running sum, which the reference computes clumsily."""

from __future__ import annotations

from pathlib import Path

from sia_flow.verify.task import Task
from tests.verify.written import write_task

MANIFEST = """
name: toy
title: Running sums
description: task.md
answer: {type: program, entry: f, timed: true}
verifier: verifier.py:Toy
modes: {plain: as it is}
mode: plain
data_sets: {none: nothing}
data: none
prepare: verifier.py:Toy
metric: {name: speed, direction: maximize, floor: 0.0}
"""

VERIFIER = '''
import numpy as np

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import ArraySpec, CallForm, Instance
from sia_flow.verify.timed import Fault, TimedCase, TimedPlan

REFERENCE = """
import numpy as np
def f(d):
    for _ in range(100):
        y = 2 * np.cumsum(d["x"])
    return y
"""


def case(size):
    return TimedCase(f"n{size}", CallForm({"x": ArraySpec((size,), "float64")}, ArraySpec((size,), "float64")))


class Toy:
    digest, data_digest, floor, guards_block = "toy", "none", 0.0, False

    def __init__(self, mode, data_dir):
        pass

    def instances(self, split, count, seed):
        return tuple(Instance(f"toy/{split}/{i}", split, {}, {}, ArraySpec(())) for i in range(count))

    def visible(self, instance):
        return instance

    def score(self, instance, output):
        raise NotImplementedError

    def baselines(self, instance):
        return {}

    def guards(self, metrics):
        return {}

    def reference(self):
        return REFERENCE

    def plan(self, instance):
        sessions = 3 if instance.split == "sealed" else 1
        return TimedPlan((case(3), case(7), case(5)), (case(20000), case(30000)), 5, sessions)

    def inputs(self, case, seed):
        size = case.form.returns.shape
        return {"x": np.random.default_rng(derive_seed(case.name, seed)).standard_normal(size)}

    def fault(self, output, expected):
        if not np.isfinite(output).all():
            return Fault("non_finite", "not finite")
        return None if np.allclose(output, expected) else Fault("wrong", "another sum")

    def verdict(self, timings):
        gains = [t.speedup for t in timings]
        return Verdict(reward=sum(gains) / len(gains), valid=True, metrics={t.case: t.speedup for t in timings})
'''


def make_task(root: Path) -> Task:
    """Write the task's folder and load it."""
    return write_task(root, "toy", MANIFEST, VERIFIER)


def kernel(*body: str, before: str = "") -> str:
    """Return a program whose `f(d)` has this body."""
    return f"import os, time\nimport numpy as np\n{before}\ndef f(d):\n" + "".join(f"    {line}\n" for line in body)
