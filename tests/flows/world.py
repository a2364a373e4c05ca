"""A small project of its own for each test: real task, real sandbox, a tiny base that was trained once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.flows.once import made_once
from tests.flows.warm import ROOT, Process, start

SPEC = """metadata: {name: small}
spec:
  task: {name: denoise, mode: sia}
  arms: [SIA-H]
  rollouts: {instances: 2, samples: 3}
  verify: {select: {instances: 2, samples: 2}, sealed: {instances: 2, samples: 2}}
  training: {iterations: 2, instances: 2, samples: 3}
  search: {trials: 2}
  accept: {gate: always}
  budget: {generations: 1}
"""


@cache
def template() -> Path:
    """A project with a data set of 210 cells, a base that knows most of the task's language, and empty servers.

    Most projects of the tests are copies of it.
    """
    return made_once("world", _make)


def _make(root: Path) -> None:
    from mlflow import MlflowClient

    from sia_flow.policy.tiny import TinyConfig, build_tiny
    from sia_flow.policy.warmup import Schedule
    from sia_flow.track.mlflow import default_uri
    from sia_flow.track.server import PrefectServer
    from sia_flow.verify.task import load_task

    for name in ("tasks", "flows"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    task = load_task(ROOT, "denoise")
    random = np.random.default_rng(5)
    kinds = random.normal(0, 1.0, (3, 1, 60)).repeat(70, 1).reshape(210, 60)
    np.savez(root / "cells.npz", counts=random.poisson(np.exp(random.normal(0, 1.0, (1, 60)) + kinds)))
    task.prepare(str(root / "cells.npz"), root / "data/denoise/pbmc")
    config = TinyConfig(pieces=256, schedule=Schedule(steps=80, batch=24, learning_rate=1e-2))
    build_tiny(task.pairs(0, 1000), root / "models/tiny-gpt-oss", config)
    # Their first start makes tables for 10 s and more; what it does by itself is tested in tests/track.
    with PrefectServer(root / ".sia-flow"):
        MlflowClient(default_uri(root)).search_experiments()


def make_project(folder: Path, spec: str = SPEC, *, started: bool = True) -> Path:
    """Copy the template to `folder` with one spec; return the spec's path. Without `started` no server ever was."""
    servers = None if started else shutil.ignore_patterns(".sia-flow", "mlruns")
    shutil.copytree(template(), folder, dirs_exist_ok=True, ignore=servers)
    path = folder / "specs" / "small.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(spec)
    return path


def run_here(spec: Path, *overrides: str, **parts: Any) -> list[Any]:
    """Run the spec's experiment in this process, without Prefect; an arm that ended may always go on."""
    from flows.local import run_experiment
    from sia_flow.lineage.store import Store
    from sia_flow.loop.arm import ArmState
    from sia_flow.loop.lab import Lab
    from sia_flow.loop.sealed import allow_again
    from sia_flow.spec.load import load_experiments

    (experiment,) = load_experiments(spec, list(overrides))
    store = spec.parents[1] / ".sia-flow/store"
    if store.is_dir():
        with Lab(experiment, spec.parents[1], Store(store)) as lab:
            allow_again(lab, [ArmState(arm, seed) for arm in lab.spec.arms for seed in lab.spec.seeds])
    return run_experiment(experiment, spec.parents[1], **parts)


def output(process: Process) -> str:
    """Return what a started process has written so far."""
    process.log.seek(0)
    return process.log.read()


def sia_flow(*arguments: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """Run the command line to its end, check its exit code, return its output."""
    process = start(*arguments, cwd=cwd, **environment)
    try:
        found = process.wait(timeout=240)
    finally:
        end(process)
    assert found == code, output(process)[-3000:]
    return output(process)


def end(process: Process) -> None:
    """Kill what is left of a started process."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(condition: Callable[[], Any], seconds: float = 60.0, every: float = 0.01, what: Any = "") -> Any:
    """Wait until the condition holds, asked each `every` seconds; return what it gave. `what` tells of a failure."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not happen in time {what() if callable(what) else what}"
        time.sleep(every)
    return found


# --- what is in a store ---------------------------------------------------------------------------------------


def records(root: Path, *kinds: str) -> dict[str, bytes]:
    """Return the record files of a project's store by their path in it."""
    store = root / ".sia-flow" / "store"
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for kind in kinds or ("steps", "generations", "arms")
        for path in sorted((store / kind).rglob("*.json"))
        if not path.name.startswith(".")
    }


def journal(root: Path) -> list[Mapping[str, Any]]:
    """Return the journal's entries."""
    path = root / ".sia-flow" / "store" / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def done_steps(root: Path) -> list[tuple[str, str]]:
    """Return (step, key) of every finished body, in order."""
    return [(e["step"], e["key"]) for e in journal(root) if e["event"] == "done"]


def generations(root: Path, result: Any) -> list[Any]:
    """Return an arm's generations."""
    from sia_flow.lineage.store import Store

    store = Store(root / ".sia-flow" / "store")
    return [store.generation(generation_id) for generation_id in result.generations]


# --- processes ------------------------------------------------------------------------------------------------


def process_table() -> dict[int, tuple[int, str]]:
    """Return pid -> (parent, start time) of every process that has not ended."""
    table = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z":
            table[int(path.parent.name)] = (int(fields[1]), fields[19])
    return table


def descendants(pid: int) -> set[tuple[int, str]]:
    """Return (pid, start time) of every process below `pid`."""
    table = process_table()
    found: set[int] = set()
    fresh = {pid}
    while fresh:
        fresh = {child for child, (parent, _) in table.items() if parent in fresh} - found
        found |= fresh
    return {(child, table[child][1]) for child in found}


def survivors(processes: Sequence[tuple[int, str]] | set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return those of the processes that are still there."""
    table = process_table()
    return {(pid, since) for pid, since in processes if table.get(pid, (0, ""))[1] == since}
