"""Seconds a generation that are not sampling, sandboxed execution or scoring: plain calls against Prefect and MLflow.

A SIA-H arm with few rollouts runs in a temporary project, by plain calls and through the Prefect flow on a private
server with MLflow beside it; time inside the sampler, the sandbox and the verifier is taken off.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
GENERATIONS = 4
SMALL = [
    "spec.arms=[SIA-H]",
    "spec.spread=null",
    f"spec.budget.generations={GENERATIONS}",
    "spec.rollouts={instances: 1, samples: 4}",
    "spec.verify={select: {instances: 1, samples: 4}, sealed: {instances: 1, samples: 4}}",
]
WORK: list[float] = []


def timed(owner: type, name: str) -> None:
    """Count the seconds that a method takes as work; calls inside a counted call count once."""
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*arguments: Any, **options: Any) -> Any:
        start, before = time.perf_counter(), len(WORK)
        try:
            return inner(*arguments, **options)
        finally:
            nested = sum(WORK[before:])
            WORK.append(time.perf_counter() - start - nested)

    setattr(owner, name, outer)


def measure(*, prefect: bool) -> float:
    """Return the seconds a generation that are not work, of one run in a new project."""
    from rich.console import Console

    from sia_flow.cli.running import Request, apply_experiment, prefect_server
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project
    from sia_flow.spec.load import load_experiments

    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        root = Path(folder)
        for name in ("flows", "tasks", "specs"):
            shutil.copytree(ROOT / name, root / name)
        for name in ("data", "models"):
            (root / name).symlink_to(ROOT / name)
        spec = root / "specs" / "denoise.yaml"
        (experiment,) = load_experiments(spec, SMALL)
        WORK.clear()
        request = Request(Project(root), experiment, spec, tuple(SMALL), 0)
        with prefect_server(request.project) if prefect else contextlib.nullcontext() as server:
            apply_experiment(request, Console(file=nowhere), server, as_json=False)
        journal = list(Store(Project(root).store).journal())
        wall = journal[-1]["at"] - journal[0]["at"]
        return (wall - sum(WORK)) / (GENERATIONS + 1)


def main() -> None:
    """Print both figures and their ratio."""
    from sia_flow.policy.local import LocalPolicy
    from sia_flow.sandbox.open import WarmSandbox
    from sia_flow.sandbox.session import WarmSession
    from sia_flow.verify.programs import ProgramScorer

    for owner, name in (
        (LocalPolicy, "sample"),
        (LocalPolicy, "load"),
        (WarmSession, "run"),
        (WarmSandbox, "open"),
        (ProgramScorer, "score"),
    ):
        timed(owner, name)
    measure(prefect=False)
    plain, full = measure(prefect=False), measure(prefect=True)
    print(f"plain calls          {plain:6.3f} s a generation")
    print(f"Prefect and MLflow   {full:6.3f} s a generation   {full / plain:.1f} times")


if __name__ == "__main__":
    main()
