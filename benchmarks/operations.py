"""What it costs to look: `status`, `compare` and `report` over a store of 1,000 generations and 64,000 trajectories.

The store is written by the real Store API, as the loop writes it; scores and texts are made up. Prints wall time, peak
memory and size.

    python benchmarks/operations.py [FOLDER] [--generations 1000]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sia_flow.canonical import digest
from sia_flow.lineage.heads import Head, write_head
from sia_flow.lineage.jsonl import dump_lines
from sia_flow.lineage.records import (
    Decision,
    Edit,
    Generation,
    Isolation,
    Score,
    Spend,
    Trajectory,
    Turn,
    Verdict,
    WeightPlan,
)
from sia_flow.lineage.results import ArmResult, BestProgram
from sia_flow.lineage.store import Step, StepOutput, StepRecord, Store
from sia_flow.spec.identity import resolved_json
from sia_flow.spec.models import Experiment

INSTANCES, SAMPLES, SEEDS, ARMS = 4, 16, 10, ("SIA-H", "SIA-W+H")
SOURCE = "# tune: begin\nKNN: int = {knn}  # 2..30\n# tune: end\n\n\ndef solve(job):\n    return job.generate([])[0]\n"
PROGRAM = "import numpy as np\n\n\ndef denoise(counts, seed):\n" + "    counts = counts * {a:.6f} + {b:.6f}\n" * 12
ISOLATION = Isolation(level=2, backend="bubblewrap", features=("network",), missing=())


def score(split: str, mean: float, draw: random.Random) -> Score:
    """Return a score of 64 rollouts around a mean."""
    rewards = {f"{split}/{i}": tuple(mean + draw.gauss(0, 0.05) for _ in range(SAMPLES)) for i in range(INSTANCES)}
    flat = [reward for group in rewards.values() for reward in group]
    mean = sum(flat) / len(flat)
    reasons = {"ok": 50, "syntax": 8, "guard": 6}
    metrics = {"mse_norm": mean, "poisson_norm": 0.5}
    return Score.model_validate(
        {"split": split, "n": 64, "mean": mean, "se": 0.006, "best": max(flat), "valid": 0.78}
        | {"rewards": rewards, "reasons": reasons, "metrics": metrics}
    )


def rollouts(draw: random.Random, mean: float) -> tuple[list[Trajectory], list[Verdict]]:
    """Return 64 trajectories and their verdicts."""
    trajectories, verdicts = [], []
    for number in range(INSTANCES * SAMPLES):
        text = PROGRAM.format(a=draw.random(), b=draw.random())
        ids = tuple(draw.randrange(2000) for _ in range(60))
        turn = Turn(
            messages=({"role": "user", "content": "Write denoise(counts, seed)."},),
            text=text,
            prompt_ids=(1, 5, 9, 4),
            completion_ids=ids,
            logprobs=tuple(-draw.random() for _ in ids),
            temperature=1.0,
            finish="stop",
            policy="base",
        )
        instance = f"train/{number // SAMPLES}"
        trajectories.append(
            Trajectory(instance=instance, sample=number % SAMPLES, seed=number, turns=(turn,), answer=text)
        )
        reason = "ok" if number % 5 else ("syntax" if number % 2 else "guard")
        reward = mean + draw.gauss(0, 0.05) if reason == "ok" else 0.0
        verdicts.append(Verdict(reward=reward, valid=reason == "ok", reason=reason, feedback="as it was scored"))
    return trajectories, verdicts


def step(store: Store, name: str, number: int, outputs: dict[str, str]) -> StepRecord:
    """Write a step's record."""
    return store.run(Step(name, 1, {"number": number}, {"task": "7" * 64}, 0), lambda: StepOutput(outputs))


def decision(index: int) -> Decision | None:
    """Return the decision that made a generation: weights and harness in turns."""
    if index == 0:
        return None
    report = "## Rewards\n\n" + "The upper decile is far from the mean, and one instance has no spread.\n" * 20
    if index % 3 == 0:
        plan = WeightPlan(algorithm="grpo", iterations=30, learning_rate=0.004, kl=0.05)
        return Decision(lever="weights", reason="the scaffold stalls", forecast=0.01, report=report, weights=plan)
    edit = Edit(kind="constants", name=f"KNN -> {index % 30}", summary="more neighbours", files={})
    return Decision(lever="harness", reason="knobs are untried", forecast=0.004, report=report, edits=(edit,))


def grow(store: Store, arm: str, seed: int, count: int) -> tuple[list[Generation], Spend]:
    """Write the generations of one arm and seed."""
    draw = random.Random(digest([arm, seed]))
    made: list[Generation] = []
    best, mean = None, 0.04
    for index in range(count):
        number = int(digest([arm, seed, index])[:12], 16)
        trajectories, verdicts = rollouts(draw, mean)
        rollout = step(store, "rollout", number, {"trajectories": store.objects.put_bytes(dump_lines(trajectories))})
        verify = step(store, "verify", number, {"verdicts": store.objects.put_bytes(dump_lines(verdicts))})
        select = score("select", mean + draw.gauss(0.002, 0.01), draw)
        kept = best is None or select.mean > best.select.mean + 0.006
        chosen = decision(index)
        training = tuple({"reward_mean": mean + i / 3000, "kl_base": i / 100} for i in range(30))
        generation = Generation(
            id=digest(["generation", arm, seed, index]),
            index=index,
            parent=best.id if best else None,
            seed=seed,
            scaffold=store.objects.put_tree({"scaffold.py": SOURCE.format(knn=2 + number % 28).encode()}),
            base="b" * 64,
            adapter=None,
            data="d" * 64,
            verifier="e" * 64,
            decision=chosen,
            train=score("train", mean, draw),
            select=select,
            guards={"poisson": 0.1 - mean / 2},
            accepted=kept,
            verdict="gain +0.0100 +- 0.0050 beyond 1 standard error" if kept else "gain within one standard error",
            gain=select.mean - (best.select.mean if best else select.mean),
            gain_se=0.006,
            training=training if chosen and chosen.weights else (),
            spend=Spend(rollouts=128, prompt_tokens=512, completion_tokens=7000, verifications=90),
            isolation=ISOLATION,
            trajectories=rollout.outputs["trajectories"],
            steps={"rollout train": rollout.key, "verify train": verify.key},
        )
        store.put_generation(generation)
        made.append(generation)
        if kept:
            best, mean = generation, select.mean
    return made, Spend(rollouts=128 * count, prompt_tokens=512 * count, completion_tokens=7000 * count)


def build(root: Path, generations: int) -> None:
    """Write a project with one experiment of so many generations."""
    for name in ("tasks", "flows"):
        (root / name).mkdir(parents=True, exist_ok=True)
    spec = {"task": {"name": "denoise"}, "arms": list(ARMS), "seeds": list(range(SEEDS))}
    experiment = Experiment.model_validate({"metadata": {"name": "large"}, "spec": spec})
    store = Store(root / ".sia-flow" / "store")
    each = generations // (SEEDS * len(ARMS))
    for arm in experiment.spec.arms:
        for seed in range(SEEDS):
            made, spend = grow(store, arm.name, seed, each)
            best = [g for g in made if g.accepted][-1]
            draw = random.Random(seed)
            sealed = score("sealed", best.select.mean - 0.004, draw)
            answer = store.objects.put_bytes(PROGRAM.encode())
            program = BestProgram(answer=answer, train=0.2, select=best.select, sealed=sealed)
            ids = tuple(g.id for g in made)
            result = ArmResult(
                key=digest(["arm", arm.name, seed]),
                experiment="large",
                arm=arm.name,
                seed=seed,
                generations=ids,
                incumbent=best.id,
                stopped="budget.generations",
                select=best.select,
                sealed=sealed,
                best=program,
                baselines={"magic": {"select": 0.046, "sealed": 0.047}},
                spend=spend,
            )
            store.put_arm(result)
            write_head(
                store,
                Head(
                    experiment="large",
                    arm=arm.name,
                    seed=seed,
                    levers=tuple(arm.levers),
                    generations=ids,
                    result=result.key,
                    spec=resolved_json(experiment),
                    inputs={"task": "7" * 64, "data": "d" * 64, "verifier": "e" * 64, "base": "b" * 64},
                ),
            )


def measure(root: Path, *arguments: str) -> tuple[float, float, float, int]:
    """Run the command line; return wall seconds, CPU seconds, peak memory in MB and its exit code."""
    command = [sys.executable, "-m", "sia_flow", *arguments]
    started = time.monotonic()
    child = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall, cpu = time.monotonic() - started, usage.ru_utime + usage.ru_stime
    return wall, cpu, usage.ru_maxrss / 1024, child.returncode


def main() -> None:
    """Build the store unless it is there, run each command three times, print the best and the worst."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--generations", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sia-flow-operations-") as scratch:
        root = options.folder or Path(scratch)
        if not (root / ".sia-flow" / "store" / "arms").is_dir():
            started = time.monotonic()
            build(root, options.generations)
            print(f"built {options.generations} generations in {time.monotonic() - started:.0f} s")
        print("| command | wall s, best of 3 | worst | CPU s | peak MB | exit |")
        print("|:---|---:|---:|---:|---:|---:|")
        for arguments in (["status"], ["compare", "large"], ["report", "large", "--out", str(root / "report.html")]):
            runs = [measure(root, *arguments) for _ in range(3)]
            walls = sorted(wall for wall, _, _, _ in runs)
            memory, cpu = max(peak for _, _, peak, _ in runs), min(used for _, used, _, _ in runs)
            print(f"| {arguments[0]} | {walls[0]:.2f} | {walls[-1]:.2f} | {cpu:.2f} | {memory:.0f} | {runs[0][3]} |")
        print(f"report: {(root / 'report.html').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
