"""The algorithms of the weight lever beside each other, from the records of a spec: specs/algorithms.yaml on denoising.

    sia-flow apply specs/algorithms.yaml && python benchmarks/algorithms.py [--spec FILE] [--picture FILE]

Prints a table a row an algorithm, means over the seeds with their standard error, and draws the curves. Rewards of
iterations are on train; select and sealed are measured once, after the update. `decisive` is the iteration in which a
program first earns more than 0.3 on an instance: without the guard, the constants alone end at a mean of 0.24.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sia_flow.cli.workbench import open_experiments, plan_all  # noqa: E402
from sia_flow.lineage.records import Generation, Spend  # noqa: E402
from sia_flow.lineage.results import ArmResult  # noqa: E402
from sia_flow.lineage.store import Store  # noqa: E402
from sia_flow.report.canvas import COLOURS, dress, figure_of, write  # noqa: E402
from sia_flow.spec.models import ExperimentSpec  # noqa: E402

SPEC = ROOT / "specs" / "algorithms.yaml"
DECISIVE = 0.3
LAST = 5
"""Iterations that stand for the end of an update."""
PANELS = {
    "reward_mean": "mean reward on train",
    "reward_max": "best reward on train so far",
    "valid_rate": "share of valid programs",
    "kl_base": "KL to the base, nats a sequence",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One update: its iterations' metrics, its arm's end, what it cost."""

    steps: Sequence[Mapping[str, float]]
    result: ArmResult
    spend: Spend

    @property
    def decisive(self) -> int | None:
        """Iteration, from 1, in which a program first earned more than DECISIVE."""
        return next((i + 1 for i, step in enumerate(self.steps) if step["reward_max"] > DECISIVE), None)

    def end(self, metric: str) -> float:
        """Return the mean of a metric over the last iterations."""
        return fmean(step[metric] for step in self.steps[-LAST:])


def runs_of(results: Sequence[ArmResult], store: Store) -> list[Run]:
    """Return the weight updates of an experiment's arms."""
    found = []
    for result in results:
        generations: list[Generation] = [store.generation(name) for name in result.generations]
        found += [Run(g.training, result, g.spend) for g in generations if g.training]
    return found


def named(spec: ExperimentSpec) -> str:
    """Return the algorithm, and what its rollouts start from where that is not nothing."""
    reuse = spec.reuse.type
    return spec.training.algorithm if reuse == "none" else f"{spec.training.algorithm}, reuse {reuse}"


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean and standard error over the seeds."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{fmean(values):.{digits}f} ± {error:.{digits}f}"


def row(name: str, runs: Sequence[Run]) -> str:
    """Return a row of the table."""
    found = [run.decisive for run in runs]
    cells = [
        name,
        spread([run.result.select.mean for run in runs], 3),
        spread([run.result.sealed.mean for run in runs], 3),
        spread([run.end("reward_mean") for run in runs], 3),
        spread([run.end("valid_rate") for run in runs], 2),
        spread([run.end("kl_base") for run in runs], 1),
        ", ".join("never" if i is None else str(i) for i in found),
        f"{fmean(run.spend.verifications for run in runs):,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def draw(table: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Draw a panel a metric, a line an algorithm: the mean over the seeds that still run, a cross where one stopped."""
    figure = figure_of((11.0, 7.0))
    for place, (metric, label) in enumerate(PANELS.items()):
        axes = figure.add_subplot(2, 2, place + 1)
        dress(axes, "iteration", whole=True)
        axes.set_ylabel(label)
        for colour, (name, runs) in zip(COLOURS, table.items(), strict=False):
            curves = [curve(run, metric) for run in runs]
            length = max(map(len, curves))
            means = [fmean(values[i] for values in curves if i < len(values)) for i in range(length)]
            axes.plot(range(1, length + 1), means, color=colour, linewidth=1.8, label=name)
            for values in curves:
                if len(values) < length:
                    axes.plot(len(values), values[-1], "x", color=colour)
    figure.axes[1].legend(frameon=False, fontsize=9)
    write(figure, path)


def curve(run: Run, metric: str) -> list[float]:
    """Return a metric over the iterations; the best reward as what was found so far."""
    values = [step[metric] for step in run.steps]
    return [max(values[: i + 1]) for i in range(len(values))] if metric == "reward_max" else values


def main() -> None:
    """Print the table and draw the picture. Exits with 1 while an arm is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, default=SPEC)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    table: dict[str, list[Run]] = {}
    for project, experiment in open_experiments(options.spec, []):
        plans = plan_all(project, experiment)
        if missing := [plan for plan in plans if plan.result is None]:
            sys.exit(f"{experiment.metadata.name}: {len(missing)} arms are not finished; run `sia-flow apply` first")
        results = [plan.result for plan in plans if plan.result is not None]
        table[named(experiment.spec)] = runs_of(results, Store(project.store))
    print("| algorithm | select | sealed | reward, last 5 | valid, last 5 | KL | decisive | verified |")
    print("|---|---|---|---|---|---|---|---|")
    for name, runs in table.items():
        print(row(name, runs))
    if options.picture is not None:
        draw(table, options.picture)


if __name__ == "__main__":
    main()
