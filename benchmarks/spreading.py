"""One worker on one core against two on two, on an experiment of several seeds: wall seconds and their ratio.

    python benchmarks/spreading.py [--type processes|dask|ray] [--jobs 2] [--seeds 4] [--iterations 30] [--sandboxed]
    python benchmarks/spreading.py --shared [--samples 64] [--batch 32]    one seed: the second worker takes batches

Each run has a project of its own; the steps are the same, and so are the records, which is checked. `steps` runs from
the first step's start to the last one's end, `whole` has the start of the workers and their imports in it. By default
the updates make many passes over few rollouts, so that most of the time is torch's, as with a model that is not tiny;
with `--sandboxed` it is the sandboxes', and then mostly the kernel's, of which two cores do less than twice as much.
Each worker has a core, as it has a machine of its own elsewhere: alone it would use the second one too, for forks ahead
of their jobs and for the verifier's process (`--free` lets it). Needs the prepared data set and the tiny base.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

COMPUTING = "algorithm: ppo, instances: 2, samples: 4, epochs: 40, learning_rate: 0.000001"
SANDBOXED = "algorithm: grpo"
SHARED = "algorithm: grpo, instances: 2, samples: {samples}, learning_rate: 0.000001"


class Found(NamedTuple):
    """What a run took, and its records by their path."""

    whole: float
    steps: float
    cpu: float
    """Processor seconds of workers and their sandboxes, imports among them; on Ray, whose processes stay, 0."""
    records: dict[str, bytes]


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Run the block, and the processes that it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(kind: str, jobs: int, fields: list[str], cores: set[int]) -> Found:
    """Run the experiment on so many workers, in a project of its own."""
    with on(cores):
        return _measured(kind, jobs, fields)


def _measured(kind: str, jobs: int, fields: list[str]) -> Found:
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
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--sandboxed", action="store_true", help="Many rollouts and one pass over them.")
    parser.add_argument("--shared", action="store_true", help="One seed, whose rollouts are divided.")
    parser.add_argument("--samples", type=int, default=64, help="Rollouts of an instance, with --shared.")
    parser.add_argument("--batch", type=int, default=32, help="Rollouts that go together, with --shared.")
    parser.add_argument("--free", action="store_true", help="Every worker may use all cores.")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    training = SANDBOXED if chosen.sandboxed else COMPUTING
    if chosen.shared:
        chosen.seeds, training = 1, SHARED.format(samples=chosen.samples)
    fields = [
        f"seeds={list(range(chosen.seeds))}",
        f"training={{iterations: {chosen.iterations}, {training}}}",
        "budget={generations: 1}",
        *([f"rollouts.batch={chosen.batch}"] if chosen.shared else []),
    ]
    cores = sorted(os.sched_getaffinity(0))
    given = {jobs: set(cores if chosen.free else cores[:jobs]) for jobs in (1, chosen.jobs)}
    one, many = (measure(chosen.type, jobs, fields, given[jobs]) for jobs in (1, chosen.jobs))
    for name, first, second in (("whole", one.whole, many.whole), ("steps", one.steps, many.steps)):
        print(f"{name}: {first:.1f} s with 1 worker, {second:.1f} s with {chosen.jobs}: {first / second:.2f} times")
    print(f"CPU: {one.cpu:.1f} s with 1 worker, {many.cpu:.1f} s with {chosen.jobs}")
    load = os.getloadavg()[0]
    same = "the same" if one.records == many.records else "DIFFERENT"
    each = "all cores for each" if chosen.free else "a core for each"
    print(f"{len(one.records)} records, {same}; {len(cores)} cores, {each}, load {load:.1f}, {chosen.type}")


if __name__ == "__main__":
    main()
