"""Real arms on real workers: the records of one process, with a worker or the whole run killed on the way."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from sia_flow.lineage.heads import heads
from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Several, Silent
from sia_flow.loop.heads import HeadKeeper
from sia_flow.spec.load import load_experiments
from tests.cli import ops_world
from tests.flows.world import (
    descendants,
    done_steps,
    end,
    journal,
    make_project,
    output,
    records,
    run_here,
    sia_flow,
    start,
    survivors,
    until,
)

pytestmark = pytest.mark.slow


class Killer(Silent):
    """Kills the process that computed the first generation, and keeps what it is told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.killed: list[int] = []
        self.seen: list[tuple[str, int]] = []
        self.ended: list[str] = []
        self.warnings: list[str] = []

    def generation(self, arm: str, generation: Generation) -> None:
        self.seen.append((arm, generation.index))
        if not self.killed:
            last = next(e for e in reversed(journal(self.root)) if e["step"] == "verify")
            self.killed.append(last["pid"])
            os.kill(last["pid"], signal.SIGKILL)

    def arm_ended(self, result: ArmResult) -> None:
        # What is recorded has been looked at before.
        assert Store(self.root / ".sia-flow/store").arm(result.key) is None
        self.ended.append(result.arm)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_two_workers_one_of_them_killed_leave_the_records_of_one_process(tmp_path: Path) -> None:
    expected = ops_world.template()
    spec = make_project(tmp_path / "spread", ops_world.TWO)
    root = spec.parents[1]
    killer = Killer(root)
    (experiment,) = load_experiments(spec)
    keeper = HeadKeeper(Store(root / ".sia-flow/store"), experiment)
    results = run_here(spec, "spread.jobs=2", watcher=Several(keeper, killer))
    assert records(root) == records(expected)
    assert [result.arm for result in results] == ["SIA-H", "W"]
    assert max(Counter(done_steps(root)).values()) == 1
    assert os.getpid() not in {entry["pid"] for entry in journal(root)}
    assert any("another one takes over" in text for text in killer.warnings)
    assert sorted(killer.ended) == ["SIA-H", "W"]
    assert {("SIA-H", 0), ("SIA-H", 1), ("W", 0), ("W", 1)} == set(killer.seen)
    kept = [(head.name, head.generations, head.result) for head in heads(Store(root / ".sia-flow/store"))]
    assert kept == [(h.name, h.generations, h.result) for h in heads(Store(expected / ".sia-flow/store"))]


def test_a_worker_that_would_wait_draws_for_the_control_ahead_of_it(tmp_path: Path) -> None:
    alone, spread = make_project(tmp_path / "alone"), make_project(tmp_path / "spread")
    arms = "arms=[SIA-H, best-of-n]"
    run_here(alone, arms)
    _, control = run_here(spread, arms, "spread.jobs=2")
    assert control.stopped == "512 rollouts drawn"
    assert records(spread.parents[1]) == records(alone.parents[1])
    assert max(Counter(done_steps(spread.parents[1])).values()) == 1
    drawn = [entry for entry in journal(spread.parents[1]) if entry["event"] == "start" and entry["step"] == "rollout"]
    # Both were at work: what the control needs was begun before the other arm had made its second generation.
    assert len({entry["pid"] for entry in drawn}) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_is_killed_or_stopped_leaves_nobody_and_goes_on(tmp_path: Path, number: int, code: int) -> None:
    root = make_project(tmp_path, ops_world.TWO).parents[1]
    command = ("apply", "specs/small.yaml", "--engine", "local", "--jobs", "2")
    process = start(*command, cwd=root, MLFLOW_TRACKING_URI="sqlite:////dev/null/no")
    try:
        until(lambda: len(journal(root)) > 8 or process.poll() is not None, 120)
        own = descendants(process.pid)
        os.kill(process.pid, number)
        assert process.wait(120) == code, output(process)
        until(lambda: not survivors(own), 10)
    finally:
        end(process)
    sia_flow(*command, cwd=root, MLFLOW_TRACKING_URI="sqlite:////dev/null/no")
    assert records(root) == records(ops_world.template())
    assert max(Counter(done_steps(root)).values()) == 1
