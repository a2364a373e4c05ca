"""What verifying one denoising program costs, on one thread, with every rival interleaved in one process.

`python benchmarks/denoise.py` prints CPU milliseconds (the least of many runs) and ratios.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sia_flow.sandbox.open import open_sandbox  # noqa: E402
from sia_flow.verify.programs import ProgramScorer  # noqa: E402
from sia_flow.verify.task import load_task  # noqa: E402
from tasks.denoise import corpus, kit, passes  # noqa: E402
from tasks.denoise.data import prepare  # noqa: E402

HEAD = "import numpy as np\nimport denoise_kit as kit\nKNN, T, N_PCA, DECAY = 5, 3, 100, 1.0\n"


def interleaved(rivals: Mapping[str, Callable[[], object]], repeats: int = 30) -> dict[str, float]:
    """Return the least CPU milliseconds of each rival; all take turns, so that load hits them alike."""
    least = dict.fromkeys(rivals, float("inf"))
    for _ in range(repeats):
        for name, call in rivals.items():
            start = time.process_time()
            call()
            least[name] = min(least[name], 1e3 * (time.process_time() - start))
    return least


def report(title: str, found: Mapping[str, float]) -> None:
    """Print a table with ratios to its first row."""
    base = next(iter(found.values()))
    print(title)
    for name, value in found.items():
        print(f"  {name:44s} {value:8.2f} ms  {value / base:6.2f}x")


def plain(target: np.ndarray, values: np.ndarray) -> float:
    """Return the squared distance as one would write it down."""
    total = values.sum(axis=1, keepdims=True)
    return float(np.mean((target - np.log1p(1e4 * values / np.where(total > 0, total, 1))) ** 2))


def fused() -> Callable[[np.ndarray, np.ndarray], float]:
    """Compile the same in one numba loop."""
    from numba import njit

    @njit
    def distance(target: np.ndarray, values: np.ndarray) -> float:
        total = 0.0
        for row in range(values.shape[0]):
            factor = 1e4 / max(values[row].sum(), 1e-300)
            for column in range(values.shape[1]):
                gap = target[row, column] - np.log1p(values[row, column] * factor)
                total += gap * gap
        return total / values.size

    return distance


def main() -> None:
    """Print the tables."""
    task = load_task(ROOT, "denoise")
    with tempfile.TemporaryDirectory() as folder:
        prepare("pbmc", Path(folder))
        # In this process, for an instance's private part stays with its verifier.
        verifier = task.build("guarded", Path(folder))
    (instance,) = verifier.instances("train", 1, 0)
    counts = instance.arrays["counts"]
    scope = {"np": np, "kit": kit, "KNN": 5, "T": 3, "N_PCA": 100, "DECAY": 1.0}
    exec(corpus.Program().text(), scope)
    output = scope["denoise"](counts, 0)
    target, loop = passes.log_normalize(instance.private["test"]), fused()
    start = time.process_time()
    agree = loop(target, output) / passes.squared_distances(output, target)[0] - 1
    print(f"numba compiles for {time.process_time() - start:.2f} s and agrees to {abs(agree):.1e}\n")
    rivals = {
        "blocks, numpy (ours)": lambda: passes.squared_distances(output, target),
        "plain numpy": lambda: plain(target, output),
        "one numba loop": lambda: loop(target, output),
    }
    report(f"squared distance, {counts.shape[0]} x {counts.shape[1]}", interleaved(rivals))

    def cold() -> None:
        kit._factors.clear()  # noqa: SLF001 - the cache is what is measured
        scope["denoise"](counts, 0)

    kit.warm(instance.arrays)
    warm = interleaved({"program, warm": lambda: scope["denoise"](counts, 0)})
    warm |= interleaved({"score, host": lambda: verifier.score(instance, output), "program, cold": cold})
    report("one program (MAGIC)", warm)
    through_sandbox(task, verifier, instance)


def through_sandbox(task: object, verifier: object, instance: object) -> None:
    """Print what a batch costs through the sandbox, wall and host CPU."""
    names = [f"# {i}\n{HEAD}{corpus.Program().text()}SALT = {i}\n" for i in range(64)]
    with ProgramScorer(task, verifier, open_sandbox(1)) as scorer:
        scorer.score([(instance, names[0])])
        start, cpu = time.perf_counter(), time.process_time()
        scorer.score([(instance, name) for name in names[1:]])
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"sandbox, 2 at a time: {1e3 * wall / 63:.1f} ms wall and {1e3 * cpu / 63:.1f} ms host CPU a program")


if __name__ == "__main__":
    main()
