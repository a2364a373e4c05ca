"""kill -9 at random points: the store ends as if nothing had happened, and nothing goes on running."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sia_flow.files import write_atomic
from tests.flows.world import (
    descendants,
    done_steps,
    journal,
    make_project,
    output,
    records,
    run_here,
    start,
    survivors,
    until,
)

KILLS = int(os.environ.get("SIA_FLOW_KILLS", "20"))
SPEC = """metadata: {name: small}
spec:
  task: {name: denoise, mode: sia}
  arms: [{name: W, levers: [weights]}, SIA-H]
  rollouts: {instances: 2, samples: 3}
  verify: {select: {instances: 2, samples: 2}, sealed: {instances: 2, samples: 2}}
  training: {iterations: 4, instances: 2, samples: 3}
  search: {trials: 2}
  accept: {gate: always}
  budget: {generations: 1}
"""


# No tracker: its first start costs seconds that would only be killed.
UNTRACKED = "sqlite:////dev/null/no"


def kill(pid: int, moment: Callable[[], object]) -> set[tuple[int, str]]:
    """Kill at a moment; return the processes that it had and that are still there some seconds later."""
    until(lambda: not Path(f"/proc/{pid}/root").exists() or moment())
    own = descendants(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (left := survivors(own)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def moments(root: Path, seed: int) -> Callable[[int], Callable[[], object]]:
    """Return the n-th moment: some milliseconds after the journal has grown by some entries, or inside training."""
    draw = random.Random(seed)

    def nth(n: int) -> Callable[[], object]:
        grown, delay = len(journal(root)) + draw.randint(1, 3), draw.random() * 0.3
        since: list[float] = []
        inside = n % 4 == 1

        def reached() -> bool:
            entries = journal(root)
            there = len(entries) >= grown or (inside and bool(entries) and entries[-1]["step"] == "train-LoRA")
            if there and not since:
                since.append(time.monotonic())
            return bool(since) and time.monotonic() - since[0] >= delay

        return reached

    return nth


@pytest.mark.slow
def test_killed_at_any_point_a_run_ends_with_the_same_records(tmp_path: Path) -> None:
    whole = make_project(tmp_path / "whole", SPEC)
    run_here(whole)
    expected = records(whole.parents[1])
    kills, inside, round_ = 0, 0, 0
    while kills < KILLS:
        root = make_project(tmp_path / f"killed-{round_}", SPEC).parents[1]
        nth = moments(root, round_)
        code = 1
        while code != 0:
            process = start("apply", "specs/small.yaml", "--engine", "local", cwd=root, MLFLOW_TRACKING_URI=UNTRACKED)
            left = kill(process.pid, nth(kills)) if kills < KILLS else set()
            code = process.wait()
            assert code in (0, -signal.SIGKILL), output(process)[-2000:]
            assert left == set()
            kills += code != 0
            last = journal(root)[-1:] or [{}]
            inside += code != 0 and last[0].get("step") == "train-LoRA" and last[0].get("event") == "start"
        assert records(root) == expected
        assert max(Counter(done_steps(root)).values()) == 1
        assert not list((root / ".sia-flow/work").glob("*"))
        round_ += 1
    assert inside > 0


def test_a_record_is_whole_or_absent(tmp_path: Path) -> None:
    """What a killed writer leaves beside a record is never read as one."""
    root = make_project(tmp_path).parents[1]
    run_here(root / "specs/small.yaml")
    before = records(root)
    for path in list(before)[:4]:
        file = root / ".sia-flow/store" / path
        write_atomic(file.with_name(f".{file.name}.left"), before[path][:40])
    run_here(root / "specs/small.yaml", "budget.generations=2")
    assert before.items() <= records(root).items()
