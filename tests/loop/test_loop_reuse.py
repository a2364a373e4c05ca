"""A weight update that starts some rollouts from earlier programs: on the real engine, killed, or not at all."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sia_flow.lineage.records import WeightPlan
from sia_flow.lineage.store import StepRecord, Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.evaluate import Agent
from sia_flow.loop.events import Silent
from sia_flow.loop.finish import arm_key
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import run_local
from sia_flow.loop.reuse import Starts, showing_starts
from sia_flow.loop.train import Place, prepare_train
from sia_flow.rollout.engine import plan_work
from sia_flow.spec.load import experiment_digest, load_experiments
from tests.flows.world import ROOT, until

REUSE = ("reuse=puct", "training.samples=6")
PLAN = WeightPlan(algorithm="grpo", iterations=4, learning_rate=1e-2, kl=0.02, reason="")
PLACE = Place("W", 0, 1, "W seed 0 gen 1 grpo")
REFERENCE = (ROOT / "tasks/denoise/scaffold/scaffold.py").read_bytes()
PROGRAM = "import denoise_kit as kit\n\ndef denoise(counts, seed):\n    return counts * 1.0\n"
EARLIER = [(PROGRAM, 0.01)]


class Hears(Silent):
    """Remembers the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def opened(spec: Path, *overrides: str, state: str = ".sia-flow", watcher: Silent | None = None) -> Lab:
    (experiment,) = load_experiments(spec, list(overrides))
    root = spec.parents[1]
    return Lab(experiment, root, Store(root / state / "store"), watcher)


def agent(lab: Lab, source: bytes = REFERENCE) -> Agent:
    return Agent(lab.store.objects.put_tree({"scaffold.py": source}), None)


def train(spec: Path, state: str = ".sia-flow") -> tuple[StepRecord, list[dict[str, Any]]]:
    """Pull with reuse; return the record and the notes of the iterations."""
    with opened(spec, *REUSE, state=state) as lab:
        prepared = prepare_train(lab, agent(lab), PLAN, PLACE, EARLIER)
        record = run_local(lab, prepared)
        return record, noted(lab.work_dir(record.key))


def noted(work: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(work.glob("collected-*.json"))]


def test_without_reuse_no_key_changes(spec: Path) -> None:
    (plain,), (none,) = (load_experiments(spec, list(o)) for o in ([], ["reuse={type: none, c: 2}"]))
    assert "reuse" not in plain.spec.model_dump(mode="json")
    assert experiment_digest(plain) == experiment_digest(none)
    keys: dict[str, set[object]] = {}
    for override in ("reuse=none", "reuse=puct", "reuse={c: 0.5}"):
        with opened(spec, override) as lab:
            state = ArmState(lab.spec.arms[0], 0)
            steps = [prepare_train(lab, agent(lab), PLAN, PLACE, first).step for first in ((), EARLIER)]
            keys[override] = {arm_key(lab, state), *(step.key for step in steps)}
            on = lab.spec.reuse.type == "puct"
            assert ("reuse" in steps[0].params, "earlier programs" in steps[0].inputs) == (on, on)
    assert {override: len(found) for override, found in keys.items()} == {
        "reuse=none": 2,
        "reuse=puct": 3,
        "reuse={c: 0.5}": 3,
    }
    assert len(set[object]().union(*keys.values())) == 8


def test_the_policy_is_shown_the_start_that_its_group_has(spec: Path) -> None:
    with opened(spec) as lab:
        instances = lab.instances("train", 2)
        work = plan_work(instances, 2, 0, starts={instances[1].id: PROGRAM})
        assert [item.seed for item in work] == [item.seed for item in plan_work(instances, 2, 0)]
        scaffold = showing_starts({"scaffold.py": REFERENCE.decode()})
        assert scaffold is not None
        found = lab.engine("train").run(scaffold, lab.policy(None), work)
        asked = [turn.messages[0]["content"] for t in found for turn in t.turns]
        function = PROGRAM[PROGRAM.index("def ") :]
        assert ["Example:" in text for text in asked] == [False, False, True, True]
        assert asked[2] == asked[3] == f"Write denoise(counts, seed).\nExample:\n{function}"
        assert "start" not in instances[1].public


def started(notes: Sequence[dict[str, Any]]) -> list[list[str | None]]:
    return [[group["start"] for group in note["groups"]] for note in notes]


def killed_after(iterations: int, spec: Path, key: str) -> bool:
    """Pull in another process and kill it when it has collected so often: often before the update of the last one."""
    child = multiprocessing.get_context("fork").Process(target=train, args=(spec, "killed"))
    child.start()
    work = spec.parents[1] / "killed/work" / key
    until(lambda: len(noted(work)) >= iterations or not child.is_alive())
    alive = child.is_alive()
    child.kill()
    child.join()
    return alive


@pytest.mark.slow
def test_killed_anywhere_a_pull_with_reuse_ends_in_the_same_bits(spec: Path) -> None:
    whole, notes = train(spec)
    assert whole.result["status"] == "ok"
    assert started(notes)[0] == [PROGRAM, None]
    assert [sum(start is not None for start in iteration) for iteration in started(notes)] == [1, 1, 1, 1]
    assert len({start for iteration in started(notes) for start in iteration}) > 2
    for iteration, note in enumerate(notes):
        plan = Starts(load_experiments(spec, list(REUSE))[0].spec.reuse, EARLIER, notes.__getitem__)
        ids = ["pbmc/train/0/0", "pbmc/train/0/1"]
        assert [plan.plan(iteration, ids).get(name) for name in ids] == [g["start"] for g in note["groups"]]
    kills = sum(killed_after(iterations, spec, whole.key) for iterations in (1, 2, 3))
    assert kills >= 1
    again, resumed = train(spec, "killed")
    assert again == whole
    assert resumed == notes


def test_a_scaffold_without_use_for_a_start_is_warned_of_once_and_rolled_out_as_it_is(spec: Path) -> None:
    foreign = b"def solve(job):\n    return job.generate([{'role': 'user', 'content': 'Write.'}])[0]\n"
    hears = Hears()
    with opened(spec, *REUSE, watcher=hears) as lab:
        short = PLAN.model_copy(update={"iterations": 2})
        record = run_local(lab, prepare_train(lab, agent(lab, foreign), short, PLACE, EARLIER))
        assert all("groups" not in note for note in noted(lab.work_dir(record.key)))
    assert len(hears.warnings) == 1
    assert "spec.reuse has no effect" in hears.warnings[0]
    assert set(record.outputs) == {"adapter", "programs"}
