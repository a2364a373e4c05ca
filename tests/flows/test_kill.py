"""kill -9 at random points: the store ends as if nothing had happened, and nothing goes on running."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sia_flow.files import write_atomic
from tests.flows.world import (
    QUIET,
    ROOT,
    descendants,
    done_steps,
    journal,
    make_project,
    records,
    run_here,
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


WARM = """
import os, sys
import matplotlib.figure, mlflow.tracking, optuna, peft, torch, transformers
from sia_flow.cli import main
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(line.strip() + "/log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.chdir(line.strip())
        sys.argv = ["sia-flow", "apply", "specs/small.yaml", "--engine", "local"]
        main.main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Applies:
    """Runs one `apply` after the other, each a process of its own, forked from one that has its imports done."""

    def __init__(self) -> None:
        # No tracker: its first start costs seconds that would only be killed.
        environ = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "sqlite:////dev/null/no"}
        self.warm = subprocess.Popen(
            [sys.executable, "-c", WARM], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, root: Path) -> int:
        """Start one; return its process id."""
        assert self.warm.stdin is not None
        assert self.warm.stdout is not None
        self.warm.stdin.write(f"{root}\n")
        self.warm.stdin.flush()
        return int(self.warm.stdout.readline())

    def code(self) -> int:
        """Wait for its end; return its exit code."""
        assert self.warm.stdout is not None
        return int(self.warm.stdout.readline())

    def close(self) -> None:
        self.warm.kill()
        self.warm.communicate()


@pytest.fixture
def applies() -> Iterator[Applies]:
    opened = Applies()
    yield opened
    opened.close()


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
def test_killed_at_any_point_a_run_ends_with_the_same_records(tmp_path: Path, applies: Applies) -> None:
    whole = make_project(tmp_path / "whole", SPEC)
    run_here(whole)
    expected = records(whole.parents[1])
    kills, inside, round_ = 0, 0, 0
    while kills < KILLS:
        root = make_project(tmp_path / f"killed-{round_}", SPEC).parents[1]
        nth = moments(root, round_)
        code = 1
        while code != 0:
            pid = applies.start(root)
            left = kill(pid, nth(kills)) if kills < KILLS else set()
            code = applies.code()
            assert code in (0, -signal.SIGKILL), (root / "log").read_text()[-2000:]
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
