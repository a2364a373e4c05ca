"""One worker against two on an experiment of several seeds that keeps one core busy: wall seconds and their ratio.

    python benchmarks/spreading.py [--type processes|dask|ray] [--jobs 2] [--seeds 4] [--iterations 6]

Each run has a project of its own; the steps are the same, and so are the records, which is checked. `steps` runs from
the first step's start to the last one's end, `whole` has the start of the workers and their imports in it. One sandbox
process a worker: with two of them a single worker would use the second core by itself while it verifies. Needs the
prepared data set and the tiny base.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sia_flow.lineage.store import Store  # noqa: E402
from sia_flow.plan.project import Project  # noqa: E402
from sia_flow.spec.load import load_experiments  # noqa: E402

FIELDS = (
    "arms=[SIA-W]",
    "accept.gate=always",
    "rollouts={instances: 2, samples: 8, workers: 1}",
    "verify={select: {instances: 2, samples: 8}, sealed: {instances: 2, samples: 8}}",
)


class Found(NamedTuple):
    """What a run took, and its records by their path."""

    whole: float
    steps: float
    cpu: float
    """Processor seconds of workers and their sandboxes, imports among them; on Ray, whose processes stay, 0."""
    records: dict[str, bytes]


def measure(kind: str, jobs: int, fields: list[str]) -> Found:
    """Run the experiment on so many workers, in a project of its own."""
    from flows.local import run_experiment

    with tempfile.TemporaryDirectory(prefix="sia-flow-spreading-") as folder:
        root = Path(folder)
        for name in ("flows", "tasks", "specs"):
            shutil.copytree(ROOT / name, root / name)
        for name in ("data", "models"):
            (root / name).symlink_to(ROOT / name)
        spread = f"spread={{type: {kind}, jobs: {jobs}}}"
        (experiment,) = load_experiments(root / "specs/denoise.yaml", [*FIELDS, *fields, spread])
        start, before = time.monotonic(), _cpu()
        run_experiment(experiment, root)
        whole, cpu = time.monotonic() - start, _cpu() - before
        store = Store(Project(root).store)
        times = [entry["at"] for entry in store.journal()]
        kinds = ("steps", "generations", "arms")
        paths = [path for kind in kinds for path in (store.root / kind).rglob("*.json")]
        records = {path.relative_to(store.root).as_posix(): path.read_bytes() for path in paths}
        return Found(whole, times[-1] - times[0], cpu, records)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--type", default="processes", choices=("processes", "dask", "ray"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=6)
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fields = [
        f"seeds={list(range(chosen.seeds))}",
        f"training.iterations={chosen.iterations}",
        "budget={generations: 1}",
    ]
    one, many = (measure(chosen.type, jobs, fields) for jobs in (1, chosen.jobs))
    for name, first, second in (("whole", one.whole, many.whole), ("steps", one.steps, many.steps)):
        print(f"{name}: {first:.1f} s with 1 worker, {second:.1f} s with {chosen.jobs}: {first / second:.2f} times")
    print(f"CPU: {one.cpu:.1f} s with 1 worker, {many.cpu:.1f} s with {chosen.jobs}")
    load = os.getloadavg()[0]
    same = "the same" if one.records == many.records else "DIFFERENT"
    print(f"{len(one.records)} records, {same}; {os.cpu_count()} cores, load {load:.1f}, {chosen.type}")


if __name__ == "__main__":
    main()
