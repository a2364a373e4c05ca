"""The landscape of the task denoise on its train split: what knobs, structure and the base corpus reach.

`python benchmarks/denoise_landscape.py [DATA]` runs programs of our own grammar, in this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tasks.denoise import corpus, kit  # noqa: E402
from tasks.denoise.data import prepare  # noqa: E402
from tasks.denoise.verifier import DenoiseVerifier  # noqa: E402

Knobs = Mapping[str, float]
REFERENCE: Knobs = {"KNN": 5, "T": 3, "N_PCA": 100, "DECAY": 1.0}
MAGIC = corpus.Program().text()
FLAT = corpus.Rarity((1, 1, 1, 1), (1, 1, 1), 0.35, 0.1)


@dataclass(frozen=True, slots=True)
class Found:
    """What a program scores, as means over instances."""

    guarded: float
    sia: float
    margin: float
    text: str
    knobs: Knobs


class Landscape:
    """Runs programs on the train instances of the guarded verifier."""

    def __init__(self, data: Path, instances: int) -> None:
        self.verifier = DenoiseVerifier("guarded", data)
        self.instances = self.verifier.instances("train", instances, 0)
        self.seconds = 0.0
        self.runs = 0
        for instance in self.instances:
            kit.warm(instance.arrays)

    def run(self, text: str, knobs: Knobs = REFERENCE, instances: int | None = None) -> Found:
        """Score a function of the grammar; an instance whose guard breaks counts as zero."""
        scope = {"np": np, "kit": kit, **knobs}
        exec(text, scope)
        start = time.process_time()
        rows = [self._score(scope["denoise"], i) for i in self.instances[:instances]]
        self.seconds += time.process_time() - start
        self.runs += len(rows)
        guarded, sia, margin = np.mean(rows, axis=0)
        return Found(float(guarded), float(sia), float(margin), text, knobs)

    def _score(self, denoise: Callable[..., np.ndarray], instance: object) -> tuple[float, float, float]:
        verdict = self.verifier.score(instance, denoise(instance.arrays["counts"], 0))
        metrics = verdict.metrics
        return verdict.reward, metrics.get("mse_norm", 0.0), metrics.get("poisson_margin", -9.0)


def random_knobs(random: Random) -> Knobs:
    """Draw knobs from their ranges."""
    return {
        "KNN": random.randint(2, 30),
        "T": random.randint(1, 8),
        "N_PCA": random.randint(5, 100),
        "DECAY": float(np.exp(random.uniform(np.log(0.5), np.log(20)))),
    }


def best(found: Iterable[Found], mode: str = "guarded") -> Found:
    """Return the best by one mode."""
    return max(found, key=lambda f: getattr(f, mode))


def show(name: str, found: Found) -> None:
    """Print one row, and what the program does beside the usual."""
    usual = set(MAGIC.splitlines())
    steps = [line.strip().removeprefix("y = ") for line in found.text.splitlines() if line not in usual]
    knobs = {k: round(v, 2) for k, v in found.knobs.items()} if found.knobs != REFERENCE else ""
    print(f"{name:34s} {found.guarded:7.4f} {found.sia:7.4f} {found.margin:+8.4f}  {'; '.join(steps)} {knobs}")


def structures(land: Landscape, random: Random, count: int) -> list[Found]:
    """Search structure without the corpus's rarity: one instance first, then the best twenty on all."""
    texts = {corpus.sample(random, FLAT).text() for _ in range(count)}
    first = sorted((land.run(t, instances=1) for t in sorted(texts)), key=lambda f: f.guarded)
    sia = max(first, key=lambda f: f.sia)
    return [land.run(f.text) for f in (*first[-20:], sia)]


def draws(land: Landscape, random: Random, count: int) -> np.ndarray:
    """Return rewards of programs drawn from the corpus as it is, on the first instance."""
    memo: dict[str, float] = {}
    rewards = []
    for _ in range(count):
        text = corpus.sample(random).text()
        if text not in memo:
            memo[text] = land.run(text, instances=1).guarded
        rewards.append(memo[text])
    return np.array(rewards)


def main(data: Path) -> None:
    """Print the landscape."""
    if not (data / "meta.json").exists():
        prepare("pbmc", data)
    land, random = Landscape(data, 4), Random(0)
    print(f"{'':34s} {'guarded':>7s} {'sia':>7s} {'margin':>8s}")
    show("MAGIC program, reference knobs", land.run(MAGIC))
    knobs = [land.run(MAGIC, random_knobs(random)) for _ in range(150)]
    show("knobs only, guarded", best(knobs))
    show("knobs only, sia", best(knobs, "sia"))
    for value in corpus.STEPS["power"][1]:
        show(f"one step, power {value}", land.run(corpus.Program(steps=(("power", value),)).text()))
    found = structures(land, random, 900)
    show("structure, guarded", best(found))
    show("structure, sia", best(found, "sia"))
    tuned = [land.run(best(found).text, random_knobs(random)) for _ in range(100)]
    show("structure and knobs, guarded", best([*tuned, best(found)]))
    rewards = draws(land, random, 20_000)
    print(f"corpus: mean {rewards.mean():.4f}, above zero {np.mean(rewards > 0):.3f}")
    plateau = best(knobs).guarded
    print(f"corpus: share above the knob plateau {np.mean(rewards > plateau + 0.005):.4f}")
    for n in (8, 128, 5000):
        groups = rewards[: len(rewards) // n * n].reshape(-1, n).max(axis=1)
        print(f"corpus: best of {n}: mean {groups.mean():.4f}, of {len(groups)} groups")
    print(f"{1e3 * land.seconds / land.runs:.1f} CPU ms per program and score, {land.runs} runs")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data" / "denoise" / "pbmc")
