"""What it costs that a verifier runs in a process of its own: both ways turn by turn, so that a busy machine hits both.

python benchmarks/verifier_apart.py [ROUNDS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sia_flow.sandbox.exposure import interpreter  # noqa: E402
from sia_flow.verify.apart.client import ApartVerifier  # noqa: E402
from sia_flow.verify.task import Task, load_task  # noqa: E402

STARTS = 5
BATCH = 16
INSIDE = (
    "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1]]; import sia_flow.verify.apart.client;"
    "import time; t = time.perf_counter(); from sia_flow.verify.task import load_task;"
    "v = load_task(Path(sys.argv[1]), sys.argv[2]).build(sys.argv[3], Path(sys.argv[4])); v.digest;"
    "print(time.perf_counter() - t)"
)


def main() -> None:
    """Print a line a task."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("denoise", "pbmc"), ("lawbench", "synthetic")):
            task, place = load_task(ROOT, name), ROOT / "data" / name / data
            if not (place / "meta.json").is_file():
                place = Path(folder) / name
                task.prepare(data, place)
            measure(task, data, place, rounds)


def measure(task: Task, data: str, place: Path, rounds: int) -> None:
    """Score the same answers by turns in this process, apart, and apart as a batch."""
    mode = task.manifest.mode
    here = task.build(mode, place)
    with task.verifier(mode, place) as apart:
        ways = {"in one process": _one_by_one(task, here), "apart": _one_by_one(task, apart)}
        ways["apart, as a batch"] = _batch(task, apart)
        assert len({str(way()) for way in ways.values()}) == 1
        times = _by_turns(ways, rounds)
    print(f"{task.name} ({data}), {rounds} rounds of {BATCH} scores; ms a score, median and least:")
    base = times["in one process"]
    for way, seconds in times.items():
        each, least = (1e3 * value / BATCH for value in (median(seconds), min(seconds)))
        extra = 1e3 * median(b - a for a, b in zip(base, seconds, strict=True)) / BATCH
        print(f"  {way:18s} {each:8.3f} {least:8.3f}   {median(seconds) / median(base):6.2f}x {extra:+8.3f} ms")
    starts = _by_turns({"apart": lambda: _start(task, place)}, STARTS, 0)["apart"]
    built = [float(_build(task, place)) for _ in range(STARTS)]
    print(f"  starts: {median(built):.2f} s in one process that has numpy, {median(starts):.2f} s apart")


def _items(task: Task, verifier: Any) -> list[tuple[Any, Any]]:
    (instance,) = verifier.instances("train", 1, 0)
    if task.manifest.answer.type == "text":
        return [(instance, f'{instance.public["id"]},"charge {number}"') for number in range(BATCH)]
    counts = instance.arrays["counts"]
    mean = np.repeat(counts.mean(axis=0, keepdims=True), len(counts), axis=0)
    return [(instance, mean * (1 + number / BATCH)) for number in range(BATCH)]


def _one_by_one(task: Task, verifier: Any) -> Callable[[], Any]:
    items = _items(task, verifier)
    score = verifier.score_text if task.manifest.answer.type == "text" else verifier.score
    return lambda: [score(*item) for item in items]


def _batch(task: Task, verifier: ApartVerifier) -> Callable[[], Any]:
    items = _items(task, verifier)
    score = verifier.score_texts if task.manifest.answer.type == "text" else verifier.score_all
    return lambda: score(items)


def _by_turns(ways: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 3) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + warm):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number >= warm:
                found[name].append(time.perf_counter() - start)
    return found


def _build(task: Task, place: Path) -> str:
    """Return the seconds that building the verifier takes a process that has what a host has imported anyhow."""
    asked = [sys.executable, "-c", INSIDE, str(ROOT), task.name, task.manifest.mode, str(place)]
    return subprocess.check_output(asked, text=True)


def _start(task: Task, place: Path) -> None:
    interpreter()
    with task.verifier(None, place):
        pass


if __name__ == "__main__":
    main()
