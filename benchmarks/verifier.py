"""Verifier throughput against magic-impute: MAGIC and its score on one synthetic matrix, in one process, in turns.

`python benchmarks/verifier.py [--magic FOLDER] [--cells 2000] [--genes 2000] [--repeats 5]`. FOLDER is where
`pip install --target FOLDER --no-deps magic-impute graphtools scprep pygsp tasklogger Deprecated decorator wrapt
future` put the original; it is GPL and no dependency of ours, so without FOLDER only our side is measured. The same
matrix, the same threads (as the environment says), wall and processor seconds, the least of the repeats.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from tasks.denoise import kit, mcv, scoring  # noqa: E402
from tasks.denoise.baselines import magic  # noqa: E402
from tasks.denoise.synthetic import Recipe, generate  # noqa: E402

Matrix = np.ndarray


def ours(train: Matrix) -> Matrix:
    """Return our MAGIC, its caches empty."""
    kit._factors.clear()  # noqa: SLF001 - a cold run is what is compared
    return magic(train)


def original(folder: Path) -> Callable[[Matrix], Matrix]:
    """Return magic-impute as OpenProblems calls it: square root of library-normalised counts, t 3, knn 5."""
    sys.path.append(str(folder))
    warnings.filterwarnings("ignore")
    import magic as package

    def run(train: Matrix) -> Matrix:
        sizes = train.sum(axis=1, keepdims=True)
        operator = package.MAGIC(knn=5, decay=1, t=3, n_pca=100, solver="approximate", n_jobs=2, verbose=0)
        operator.set_params(random_state=0)
        smooth = operator.fit_transform(np.sqrt(train / sizes), genes="all_genes")
        return np.square(np.maximum(np.asarray(smooth), 0.0)) * sizes

    return run


def interleaved(rivals: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the least wall and processor seconds of each rival; all take turns, so that load hits them alike."""
    least = dict.fromkeys(rivals, (float("inf"), float("inf")))
    for _ in range(repeats):
        for name, call in rivals.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            found = time.perf_counter() - wall, time.process_time() - cpu
            least[name] = min(least[name][0], found[0]), min(least[name][1], found[1])
    return least


def main() -> None:
    """Print seconds, ratios and scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--magic", type=Path)
    for option, value in (("cells", 2000), ("genes", 2000), ("repeats", 5)):
        parser.add_argument(f"--{option}", type=int, default=value)
    given = parser.parse_args()
    counts, truth = generate(Recipe(cells=given.cells, genes=given.genes, groups=8, library=4000.0))
    halves = mcv.divide(counts, 42)
    reference = scoring.make_reference(halves.train, halves.test, truth[:, halves.genes])
    methods: dict[str, Callable[[Matrix], Matrix]] = {"ours": ours}
    if given.magic is not None:
        methods["magic-impute"] = original(given.magic)
    scores = {name: scoring.measure(method(halves.train), reference) for name, method in methods.items()}
    output = ours(halves.train)
    rivals = {name: lambda method=method: method(halves.train) for name, method in methods.items()}
    rivals["score alone"] = lambda: scoring.measure(output, reference)
    rivals["ours, MAGIC and score"] = lambda: scoring.measure(ours(halves.train), reference)
    if given.magic is not None:
        rivals["magic-impute and score"] = lambda: scoring.measure(methods["magic-impute"](halves.train), reference)
    found = interleaved(rivals, given.repeats)
    print(f"{given.cells} x {given.genes}, the least of {given.repeats} runs in turns")
    for name, (wall, cpu) in found.items():
        print(f"  {name:26s} {wall:8.3f} s wall {cpu:8.3f} s processor")
    for name, metrics in scores.items():
        print(f"  {name:26s} mse_norm {metrics['mse_norm']:.5f}  poisson_norm {metrics['poisson_norm']:.5f}")
    if given.magic is not None:
        both = [found[name] for name in ("magic-impute and score", "ours, MAGIC and score")]
        print(f"  ratio: {both[0][0] / both[1][0]:.2f} by wall, {both[0][1] / both[1][1]:.2f} by processor")


if __name__ == "__main__":
    main()
