"""What state reuse adds to a weight update on denoise: one pull from the reference scaffold with it, one without.

    python benchmarks/reuse.py [--seeds 2] [--iterations 20] [--samples 16] [--algorithm grpo] [--rate 0.004]

Same scaffold (it shows starts in both), plan and numbers of rollouts; the streams of draws differ, since the step's key
has the setting. `best` is the best program's mean over the train instances; `fresh` is the trained policy asked without
any start, which is how a generation is judged. Needs the prepared data set and the tiny base.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sia_flow.lineage.records import WeightPlan  # noqa: E402
from sia_flow.lineage.store import Store  # noqa: E402
from sia_flow.loop.evaluate import Agent, Sample, as_pairs, evaluate  # noqa: E402
from sia_flow.loop.finish import score_program  # noqa: E402
from sia_flow.loop.lab import Lab  # noqa: E402
from sia_flow.loop.prepared import run_local  # noqa: E402
from sia_flow.loop.reuse import showing_starts  # noqa: E402
from sia_flow.loop.train import Place, prepare_train  # noqa: E402
from sia_flow.spec.load import load_experiments  # noqa: E402

FINALISTS = 5
COLUMNS = ("reuse", "seed", "best", "single", "late mean", "late valid", "fresh", "valid", "pairs", "tokens", "CPU s")


def row(lab: Lab, plan: WeightPlan, seed: int) -> Iterator[str]:
    """Pull once; yield the cells of a table's row."""
    source = showing_starts(lab.task.reference())
    assert source is not None
    scaffold = lab.store.objects.put_tree({name: text.encode() for name, text in source.items()})
    start = time.process_time()
    record = run_local(lab, prepare_train(lab, Agent(scaffold, None), plan, Place("bench", seed, 1, "pull")))
    seconds = time.process_time() - start
    programs = as_pairs(json.loads(lab.store.objects.get_bytes(record.outputs["programs"])))
    best = max(score_program(lab, program, "train").mean for program, _ in programs[:FINALISTS])
    late = record.result["steps"][-5:]
    sample = Sample("train", lab.spec.rollouts.instances, 32)
    fresh = evaluate(lab, run_local, Agent(scaffold, record.outputs["adapter"]), sample, seed, "fresh").score
    spend = record.spend
    yield from (lab.spec.reuse.type, str(seed), f"{best:.4f}", f"{programs[0][1]:.4f}")
    yield from (f"{fmean(step['reward_mean'] for step in late):.4f}", f"{fmean(s['valid_rate'] for s in late):.3f}")
    yield from (f"{fresh.mean:.4f}", f"{fresh.valid:.3f}", str(spend.verifications))
    yield from (str(spend.prompt_tokens + spend.completion_tokens), f"{seconds:.0f}")


def show(cells: Sequence[str]) -> None:
    """Print one row."""
    print("".join(f"{cell:>11}" for cell in cells), flush=True)


def main() -> None:
    """Print one row a pull. `pairs` counts distinct (instance, program) pairs that were verified."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--algorithm", default="grpo")
    parser.add_argument("--rate", type=float, default=0.004)
    parser.add_argument("--reuse", nargs="+", default=["none", "puct"], help="values of spec.reuse to compare")
    options = parser.parse_args()
    plan = WeightPlan(
        algorithm=options.algorithm, iterations=options.iterations, learning_rate=options.rate, kl=0.05, reason=""
    )
    show(COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for reuse in options.reuse:
                overrides = [f"training.samples={options.samples}", f"reuse={reuse}"]
                (experiment,) = load_experiments(ROOT / "specs" / "denoise.yaml", overrides)
                with Lab(experiment, ROOT, Store(Path(folder) / "store")) as lab:
                    show(list(row(lab, plan, seed)))


if __name__ == "__main__":
    main()
