"""What kernels for the triangle multiplicative update can reach, and how well a speed-up repeats.

Run `python benchmarks/trimul.py [ladder | landscape | repeat [HOGS] | gpu]`:
  ladder     the CPU ladder's speed-ups on the sealed shapes, by the sealed protocol
  landscape  draws from the corpus at the scaffold's first knobs: what share is right, and how fast
  repeat     one kernel measured ten times while HOGS processes load the machine
  gpu        the GPU ladder on the seven published shapes; says why where it cannot run
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import fmean, stdev

from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import Limits
from sia_flow.sandbox.open import open_sandbox
from sia_flow.verify.task import load_task
from sia_flow.verify.timed_programs import TimedScorer
from tasks.trimul import corpus, gpu

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tasks" / "trimul"
KNOBS = 'import numpy as np\nfrom numba import njit\nDTYPE, ROWS = "{}", 16\n\n'
HOG = "while True: pass"


@contextlib.contextmanager
def open_scorer() -> Iterator[TimedScorer]:
    """Open a scorer that keeps nothing."""
    task = load_task(ROOT, "trimul")
    with tempfile.TemporaryDirectory() as folder:
        task.prepare("shapes", Path(folder))
        verifier = task.verifier("cpu", Path(folder))
        with TimedScorer(task, verifier, open_sandbox(1), Limits(wall=20, cpu=60)) as scorer:
            yield scorer


def measure(scorer: TimedScorer, split: Split, programs: dict[str, str]) -> dict[str, list[Verdict]]:
    """Return each program's verdicts on two instances of a split."""
    instances = scorer.verifier.instances(split, 2, 0)
    names = list(programs)
    found = [scorer.score([(instance, programs[name]) for name in names]) for instance in instances]
    return {name: [verdicts[i] for verdicts in found] for i, name in enumerate(names)}


def ladder() -> None:
    """Print the CPU ladder."""
    programs = {path.stem: path.read_text() for path in sorted((FOLDER / "ladder").glob("*.py"))}
    with open_scorer() as scorer:
        rows = measure(scorer, "sealed", programs)
    for name, verdicts in sorted(rows.items(), key=lambda row: row[1][0].reward):
        shapes = {k: v for verdict in verdicts for k, v in verdict.metrics.items() if "/" in k}
        total = math.exp(fmean(math.log(v) for v in shapes.values()))
        each = "  ".join(f"{key.removeprefix('speedup/')} {value:5.2f}" for key, value in shapes.items())
        print(f"{name:10s} {total:6.2f}x  reward {0.105 * total:.3f}   {each}")


def landscape() -> None:
    """Print what draws from the corpus are worth on the first train instance."""
    random = Random(0)
    drawn = [corpus.sample(random).text() for _ in range(400)]
    with open_scorer() as scorer:
        instance = scorer.verifier.instances("train", 1, 0)[0]
        for dtype in ("float64", "float32"):
            verdicts = scorer.score([(instance, KNOBS.format(dtype) + text) for text in drawn])
            rewards = sorted(verdict.reward for verdict in verdicts)
            reasons = ", ".join(f"{name} {count}" for name, count in Counter(v.reason for v in verdicts).most_common())
            print(f"{dtype}: mean reward {fmean(rewards):.4f}, best five {[round(r, 2) for r in rewards[-5:]]}")
            print(f"  of {len(verdicts)} draws, {len(set(drawn))} distinct: {reasons}")


def repeat(hogs: int) -> None:
    """Print how far ten measurements of the same kernels lie apart while `hogs` processes load the machine."""
    programs = {name: (FOLDER / "ladder" / f"{name}.py").read_text() for name in ("matmul", "channels", "fused")}
    load = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(hogs)]
    try:
        with open_scorer() as scorer:
            for split in ("train", "select", "sealed"):
                _repeat(scorer, split, programs)
    finally:
        for process in load:
            process.kill()


def _repeat(scorer: TimedScorer, split: Split, programs: dict[str, str]) -> None:
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(10):
        scorer.memo.clear()
        for name, verdicts in measure(scorer, split, programs).items():
            found[name].append(math.exp(fmean(math.log(v.metrics["speedup"]) for v in verdicts)))
    for name, gains in found.items():
        spread = max(abs(gain / fmean(gains) - 1) for gain in gains)
        print(f"{split:7s} {name:9s} {fmean(gains):6.2f}x, deviation {100 * stdev(gains) / fmean(gains):.1f} %", end="")
        print(f", farthest {100 * spread:.1f} %")


def on_gpu() -> None:
    """Print the GPU ladder on the published shapes, beside plain torch."""
    if (reason := gpu.why_not()) is not None:
        print(f"not run: {reason}")
        return
    plain = {case.name: gpu.measure(gpu.reference, case, "cuda", 0) for case in gpu.TIMED}
    print(f"plain torch: reward {gpu.reward(list(plain.values())):.3f}")
    for name, kernel in gpu.ladder():
        gpu.check(kernel, gpu.CHECKS, "cuda", 0)
        timed = [gpu.measure(kernel, case, "cuda", 0) for case in gpu.TIMED]
        gain = math.exp(fmean(math.log(plain[t.case].mean / t.mean) for t in timed))
        print(f"{name}: {gain:.2f}x plain torch, reward {gpu.reward(timed):.3f}")
        for t in timed:
            before = plain[t.case].mean
            print(f"  {t.case:20s} {t.mean:9.1f} us, plain {before:9.1f} us, x{before / t.mean:.2f}")


def main(arguments: list[str]) -> None:
    """Run what is asked for."""
    what = arguments[0] if arguments else "ladder"
    known = {"ladder": ladder, "landscape": landscape, "gpu": on_gpu}
    if what == "repeat":
        repeat(int(arguments[1]) if len(arguments) > 1 else 0)
    elif what in known:
        known[what]()
    else:
        sys.exit(f"{what!r} is none of {', '.join([*known, 'repeat'])}")


if __name__ == "__main__":
    main(sys.argv[1:])
