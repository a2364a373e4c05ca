"""Whatever a candidate program or a scaffold does, a run gets a verdict with a reason and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.lineage.store import Store
from sia_flow.loop.evaluate import Agent, Sample, evaluate
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import run_local
from sia_flow.spec.load import load_experiments

HEAD = "import os, time\nimport numpy as np\ndef denoise(counts, seed):\n"
BODIES = {
    "while True: pass": {"timeout", "cpu"},
    "time.sleep(60)": {"timeout"},
    "os._exit(1)": {"crash"},
    "os.abort()": {"crash"},
    "print('x' * (1 << 26))": {"output_flood"},
    "return counts * np.nan": {"non_finite"},
    "return counts * np.inf": {"non_finite"},
    "return counts[:1] * 1.0": {"bad_shape", "bad_result"},
    "return 'text'": {"bad_result"},
    "raise ValueError('no')": {"exception"},
    "return (": {"syntax"},
    "return -1.0 - counts": {"negative"},
}


@pytest.mark.slow
def test_each_failure_has_its_reason_in_the_score(spec: Path) -> None:
    root = spec.parents[1]
    (experiment,) = load_experiments(spec, ["sandbox.wall=2s"])
    programs = [f"{HEAD}    {body}\n" for body in BODIES]
    scaffold = f"P = {programs!r}\ndef solve(job):\n    return P[job.seed % len(P)]\n"
    hanging = "def solve(job):\n    while True: pass\n"
    with Lab(experiment, root, Store(root / ".sia-flow/store")) as lab:
        verdicts = lab.scorer.score([(lab.instances("train", 1)[0], program) for program in programs])
        for (body, reasons), verdict in zip(BODIES.items(), verdicts, strict=True):
            assert verdict.reason in reasons, body
            assert not verdict.valid
            assert verdict.reward == lab.verifier.floor
        expected = {scaffold: set().union(*BODIES.values()), hanging: {"scaffold_timeout", "scaffold_cpu"}}
        for source, reasons in expected.items():
            agent = Agent(lab.store.objects.put_tree({"scaffold.py": source.encode()}), None)
            found = evaluate(lab, run_local, agent, Sample("train", 1, 6), 0, "candidates")
            assert (found.score.n, found.score.valid, found.score.mean) == (6, 0.0, lab.verifier.floor)
            assert set(found.score.reasons) <= reasons
            assert sum(found.score.reasons.values()) == 6
