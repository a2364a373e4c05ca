"""Milliseconds per job in a warm sandbox, for every backend, beside a bare interpreter that imports numpy.

Run `python benchmarks/sandbox.py [BATCHES]`; a batch is 64 trivial programs, two at a time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from sia_flow.errors import IsolationError
from sia_flow.protocols import ArraySpec, Call, Image, Job, Limits
from sia_flow.sandbox import open_sandbox
from sia_flow.sandbox.session import WarmSession

BATCH = 64
PROGRAM = Job("def f(x):\n    return x * 2", "f", ("x",), returns=ArraySpec((8, 8)))
SCAFFOLD = Job("def solve(job):\n    return job.generate([])[0]", "solve", instance={})


def answer(calls: list[Call]) -> list[list[str]]:
    """Answer a round of scaffolds at once."""
    return [["text"] for _ in calls]


def milliseconds(action: Callable[[], object], repeats: int, share: int) -> tuple[float, float]:
    """Return minimum and median of `repeats` runs, divided by `share`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1e3 / share)
    return min(times), statistics.median(times)


def show(name: str, figures: tuple[float, float]) -> None:
    """Print one line."""
    print(f"{name:44s} min {figures[0]:7.1f}   median {figures[1]:7.1f} ms")


def measure(session: WarmSession, name: str, repeats: int) -> None:
    """Print the figures of one backend."""
    limits = Limits()
    session.run([PROGRAM] * BATCH, limits)
    show(f"{name}: program", milliseconds(lambda: session.run([PROGRAM] * BATCH, limits), repeats, BATCH))
    show(f"{name}: one program alone", milliseconds(lambda: session.run([PROGRAM], limits), repeats, 1))
    show(
        f"{name}: scaffold with one call",
        milliseconds(lambda: session.run([SCAFFOLD] * BATCH, limits, answer), repeats, BATCH),
    )


def main() -> None:
    """Print the figures of every backend of this machine."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    bare = [sys.executable, "-I", "-c", "import numpy"]
    show(
        "python -c 'import numpy', no sandbox",
        milliseconds(lambda: subprocess.run(bare, check=True), repeats, 1),
    )
    image = Image(preload=("numpy",), arrays={"x": np.ones((8, 8))})
    for name in ("bubblewrap", "podman", "landlock"):
        try:
            sandbox = open_sandbox(prefer=name)
        except IsolationError as error:
            print(f"{name}: {error}")
            continue
        show(f"{name}: open a session", milliseconds(lambda box=sandbox: box.open(image).close(), 3, 1))
        with sandbox.open(image, workers=2) as session:
            measure(session, name, repeats)


if __name__ == "__main__":
    main()
