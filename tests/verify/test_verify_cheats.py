"""The cheats that every task is probed with: unpaid in the sandbox, and none of them vacuous outside of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sia_flow.errors import TaskError
from sia_flow.lineage.records import Verdict
from sia_flow.lineage.store import Store
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import run_local
from sia_flow.loop.probe import prepare_probes
from sia_flow.plan.forecast import ReplayStore
from sia_flow.protocols import ArraySpec, Instance, Limits
from sia_flow.sandbox import open_sandbox
from sia_flow.spec.load import load_experiments
from sia_flow.verify.cheats import cheats
from sia_flow.verify.probes import Probe, assert_probes
from sia_flow.verify.programs import normalize
from sia_flow.verify.scorers import open_scorer
from sia_flow.verify.task import load_task
from tests.sandbox.levels import sandbox_or_skip

SMALL = Instance("a", "train", {}, {}, ArraySpec((2, 3)))


def source(name: str) -> str:
    text = next(probe.answer for probe in cheats("f", SMALL) if probe.name == name)
    assert text is not None
    return text


def source_of(probe: Probe) -> str:
    assert probe.answer is not None
    return probe.answer


@pytest.mark.parametrize("name", ["walks the frames", "overwrites the evaluator"])
def test_beside_the_verifier_the_cheat_comes_off(name: str) -> None:
    private = {"expected": np.ones(3)}
    scope: dict[str, object] = {}
    exec(source(name), scope)
    function = scope["f"]
    assert callable(function)
    assert function(np.zeros(2)).shape == (2, 3)
    assert private


def test_a_patched_comparison_passes_anything_in_the_same_process() -> None:
    code = source("patches clocks and comparisons") + "\nimport numpy\nprint(numpy.allclose(f(), numpy.ones((2, 3))))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_faked_result_is_written_wherever_it_can_be(tmp_path: Path) -> None:
    code = source("fakes a result") + "\nf()\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["reward"] == 1e9
    assert json.loads((tmp_path / "reward.txt").read_text())["passed"]


@pytest.fixture(scope="module", params=["bubblewrap", "podman", "landlock"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project with little data, and a backend of this machine."""
    sandbox_or_skip(request.param)
    root = tmp_path_factory.mktemp("cheats")
    for name in ("tasks", "flows"):
        (root / name).symlink_to(Path(__file__).parents[2] / name)
    random = np.random.default_rng(1)
    np.savez(root / "cells.npz", counts=random.poisson(np.exp(random.normal(0.5, 1.0, (1, 40))).repeat(90, 0)))
    load_task(root, "denoise").prepare(str(root / "cells.npz"), root / "data/denoise/pbmc")
    return root, request.param


def test_no_cheat_pays_and_one_that_does_stops_the_experiment(project: tuple[Path, str]) -> None:
    root, backend = project
    task = load_task(root, "denoise")
    verifier = task.verifier("sia", task.data_dir(root, None))
    (instance,) = verifier.instances("train", 1, 0)
    probes = cheats("denoise", instance)
    with open_scorer(task, verifier, open_sandbox(prefer=backend), Limits(), 2, root / "kept") as scorer:
        verdicts = assert_probes(scorer, instance, probes)
        assert {name: verdict.valid for name, verdict in verdicts.items()} == dict.fromkeys(verdicts, False)
        key = scorer.key(instance, normalize(source_of(probes[0])))
        scorer.memo[key] = Verdict(reward=0.0, valid=True)
        with pytest.raises(TaskError, match="probes that must not pay did: walks the frames"):
            assert_probes(scorer, instance, probes)


def test_each_level_is_probed_for_itself(project: tuple[Path, str]) -> None:
    root, backend = project
    spec = root / "small.yaml"
    spec.write_text("metadata: {name: small}\nspec: {task: {name: denoise, mode: sia}}\n")
    (experiment,) = load_experiments(spec)
    store = root / ".sia-flow/store"
    with Lab(experiment, root, Store(store)) as lab:
        lab.base_digest = "b"
        lab.sandbox = open_sandbox(prefer=backend)
        prepared = prepare_probes(lab)
        assert lab.store.find(prepared.step.key) is None
        record = run_local(lab, prepared)
    assert record.isolation is not None
    assert (record.isolation.backend, record.params["backend"]) == (backend, backend)
    assert "searches the disk" in record.result
    with Lab(experiment, root, ReplayStore(store)) as rehearsal:
        rehearsal.base_digest = "b"
        assert rehearsal.store.find(prepare_probes(rehearsal).step.key) is not None
        assert "sandbox" not in vars(rehearsal)
    other = {"bubblewrap": "podman", "podman": "landlock", "landlock": "bubblewrap"}[backend]
    (elsewhere,) = load_experiments(spec, [f"sandbox.backend={other}"])
    with Lab(elsewhere, root, ReplayStore(store)) as rehearsal:
        rehearsal.base_digest = "b"
        assert rehearsal.store.find(prepare_probes(rehearsal).step.key) is None
