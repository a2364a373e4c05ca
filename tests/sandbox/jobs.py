"""The image and the little jobs that the sandbox's tests run."""

from __future__ import annotations

import numpy as np

from sia_flow.protocols import ArraySpec, Image, Job, Limits, Outcome
from sia_flow.sandbox.session import WarmSession

KIT = "FACTOR = 3\nSEEN = []\n\ndef warm(arrays):\n    SEEN.extend(sorted(arrays))\n"
IMAGE = Image(
    modules={"toolkit": KIT},
    preload=("numpy",),
    warm="toolkit:warm",
    arrays={"x": np.arange(6.0).reshape(2, 3), "counts": np.arange(4, dtype=np.int32)},
)
LIMITS = Limits(wall=5.0, cpu=4.0, memory=256 << 20)


def program(body: str, returns: ArraySpec | None = None, **fields: object) -> Job:
    """A program job whose `f(x)` has this body."""
    source = "import os\nimport numpy as np\ndef f(x):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    return Job(source, "f", ("x",), returns=returns or ArraySpec((2, 3)), **fields)


def scaffold(body: str, **fields: object) -> Job:
    """A scaffold job whose `solve(job)` has this body."""
    source = "import json, os, sys\ndef solve(job):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    return Job(source, "solve", instance={"id": "i"}, **fields)


def one(session: WarmSession, job: Job, limits: Limits = LIMITS) -> Outcome:
    """Run a single job."""
    return session.run([job], limits)[0]
