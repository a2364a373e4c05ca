"""What the winners of an experiment do to the guard and to the truth.

Takes the best program of every finished arm of the given experiments' stored results (`runs/NAME/*/seed-*/`), runs each
in the sandbox on sealed PBMC and on the synthetic data set whose true expression is known, and prints both norms and
the error against the truth beside MAGIC's. The search has seen neither split nor truth.

Usage: goodhart.py [EXPERIMENT ...]   (default: denoise)
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
INSTANCES = 4


def main() -> None:
    """Print one row a program."""
    from flows.prepare import prepare_data
    from sia_flow.plan.project import Project
    from sia_flow.sandbox.open import open_sandbox
    from sia_flow.verify.programs import ProgramScorer
    from sia_flow.verify.task import load_task

    project, task = Project(ROOT), load_task(ROOT, "denoise")
    programs = {}
    for name in sys.argv[1:] or ["denoise"]:
        for path in sorted((project.runs / name).glob("*/seed-*/best_program.py")):
            programs[f"{name} {path.parent.parent.name} {path.parent.name}"] = path.read_text(encoding="utf-8")
    print(f"{'program':32} {'data':10} {'mse_norm':>9} {'poisson':>9} {'margin':>8}  truth")
    sandbox = open_sandbox(1, project.state / "sandbox")
    for data in ("pbmc", "synthetic"):
        prepare_data(project, task, data)
        verifier = task.verifier("sia", task.data_dir(ROOT, data))
        instances = verifier.instances("sealed", INSTANCES, 0)
        rows = {"MAGIC": [verifier.baselines(i)["magic"].metrics for i in instances]}
        with ProgramScorer(task, verifier, sandbox) as scorer:
            for name, program in programs.items():
                rows[name] = [v.metrics for v in scorer.score([(i, program) for i in instances])]
        for name, metrics in rows.items():
            print(f"{name:32} {data:10} {_row(metrics)}")


def _row(metrics: list[dict[str, float]]) -> str:
    if not all(metrics):
        return "no answer"
    mean = {key: fmean(m[key] for m in metrics) for key in metrics[0]}
    truth = "  ".join(f"{key} {value:.4f}" for key, value in mean.items() if key.startswith("truth_"))
    return f"{mean['mse_norm']:9.4f} {mean['poisson_norm']:9.4f} {mean['poisson_margin']:8.4f}  {truth}"


if __name__ == "__main__":
    main()
