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
from sia_flow.verify.task import Task, load_task  # noqa: E402

STARTS = 5
INSIDE = (
    "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1]]; import sia_flow.verify.apart.client;"
    "import time; t = time.perf_counter(); from sia_flow.verify.task import load_task;"
    "v = load_task(Path(sys.argv[1]), sys.argv[2]).build(sys.argv[3], Path(sys.argv[4])); v.digest;"
    "print(time.perf_counter() - t)"
)


def main() -> None:
    """Print a line a task."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("denoise", "pbmc"), ("lawbench", "synthetic")):
            task, place = load_task(ROOT, name), ROOT / "data" / name / data
            if not (place / "meta.json").is_file():
                place = Path(folder) / name
                task.prepare(data, place)
            measure(task, data, place, rounds)


def measure(task: Task, data: str, place: Path, rounds: int) -> None:
    """Score one answer by turns in this process and apart."""
    mode = task.manifest.mode
    here = task.build(mode, place)
    with task.verifier(mode, place) as apart:
        ways = {"in one process": _scorer(task, here), "apart": _scorer(task, apart)}
        times = _by_turns(ways, rounds)
        verdicts = [way() for way in ways.values()]
    assert verdicts[0] == verdicts[1]
    found = {way: 1e3 * median(seconds) for way, seconds in times.items()}
    extra = 1e3 * median(b - a for a, b in zip(*times.values(), strict=True))
    ratio = found["apart"] / found["in one process"]
    told = ", ".join(f"{way} {value:.3f} ms" for way, value in found.items())
    print(f"{task.name} ({data}), {rounds} scores each: {told}; ratio {ratio:.2f}, {extra:+.3f} ms each")
    starts = _by_turns({"in one process": lambda: _build(task, place), "apart": lambda: _start(task, place)}, STARTS, 0)
    built = [float(found) for found in (_build(task, place) for _ in range(STARTS))]
    print(f"{task.name} starts: {median(built):.2f} s in one process, {median(starts['apart']):.2f} s apart")


def _scorer(task: Task, verifier: Any) -> Callable[[], Any]:
    (instance,) = verifier.instances("train", 1, 0)
    if task.manifest.answer.type == "text":
        answer = f'{instance.public["id"]},"theft"'
        return lambda: verifier.score_text(instance, answer)
    counts = instance.arrays["counts"]
    output = np.repeat(counts.mean(axis=0, keepdims=True), len(counts), axis=0)
    return lambda: verifier.score(instance, output)


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
