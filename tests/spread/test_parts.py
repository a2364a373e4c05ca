"""One arm on several workers: its batches divided, and its records those of one process."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.errors import InfrastructureError, SealedError
from sia_flow.lineage.records import Isolation
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Silent
from sia_flow.loop.lab import Lab
from sia_flow.loop.parts import OFFER, Helper, Offer, divided
from sia_flow.loop.stopping import Stop
from sia_flow.spec.load import load_experiments
from sia_flow.spread.crew import Crew, Run
from sia_flow.spread.processes import Processes, preloads
from tests.flows.world import done_steps, journal, make_project, records, run_here

FIELDS = (
    "arms=[SIA-W]",
    "rollouts={instances: 2, samples: 16, batch: 8}",
    "verify={select: {instances: 2, samples: 12}, sealed: {instances: 2, samples: 4}}",
    "training={algorithm: grpo, iterations: 3, instances: 2, samples: 12, learning_rate: 0.002}",
)


@given(st.integers(0, 5000), st.integers(1, 600))
def test_parts_cover_a_batch_once_and_are_of_one_size(count: int, size: int) -> None:
    parts = divided(count, size)
    assert [number for first, last in parts for number in range(first, last)] == list(range(count))
    assert {last - first for first, last in parts[:-1]} <= {size}
    assert all(0 < last - first <= size for first, last in parts)


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.done: list[tuple[str, int]] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def step_advanced(self, label: str, done: int, note: str = "") -> None:
        self.done.append((label, done))


def run_helped(spec: Path, heard: Heard) -> Crew:
    """Run the experiment on two workers, of which one has nothing of its own to do; return the crew."""
    root = spec.parents[1]
    (experiment,) = load_experiments(spec, [*FIELDS, "spread.jobs=2"])
    launcher = Processes(root, root / "workers.log", 2, preloads(experiment))
    crew = Crew(Run(experiment, root, Store(root / ".sia-flow/store"), heard, Stop()), launcher, 2)
    crew.run()
    return crew


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which one process ran the experiment."""
    spec = make_project(tmp_path_factory.mktemp("alone"))
    run_here(spec, *FIELDS)
    return spec.parents[1]


@pytest.mark.slow
def test_the_records_of_one_arm_on_two_workers_are_those_of_one(alone: Path, tmp_path: Path) -> None:
    heard = Heard()
    crew = run_helped(make_project(tmp_path), heard)
    assert records(tmp_path) == records(alone)
    # Rollouts of two generations and of three iterations, and their answers: all are divided once somebody is free.
    assert crew.parts >= 5
    assert heard.warnings == []
    assert max(Counter(done_steps(tmp_path)).values()) == 1
    assert len({entry["pid"] for entry in journal(tmp_path)}) == 1
    assert not (tmp_path / ".sia-flow/offers/small").exists()
    assert ("SIA-W seed 0 gen 0 train", 32) in heard.done


@pytest.mark.slow
def test_a_helper_that_is_killed_at_its_part_costs_that_part(alone: Path, tmp_path: Path) -> None:
    spec, heard, killed = make_project(tmp_path), Heard(), list[int]()
    over = threading.Event()

    def kill() -> None:
        while not killed and not over.wait(0.002):
            owners = {entry["pid"] for entry in journal(tmp_path)} if (tmp_path / ".sia-flow/store").is_dir() else set()
            for claim in (tmp_path / ".sia-flow/offers").glob("*/*/*.claim"):
                try:
                    pid = json.loads(claim.read_text() or "{}").get("pid")
                except FileNotFoundError:
                    continue
                if owners and pid is not None and pid not in owners:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run_helped(spec, heard)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 1
    assert any("a worker that helped" in text and "another one takes over" in text for text in heard.warnings)
    assert records(tmp_path) == records(alone)


def test_who_runs_candidates_otherwise_does_not_help(tmp_path: Path) -> None:
    spec = make_project(tmp_path)
    (experiment,) = load_experiments(spec)
    other = Isolation(level=0, backend="none")
    offer = Offer(split="train", instances=2, parts=((0, 1),), isolation=other, answers=(("i", "a"),))
    folder = tmp_path / "offer"
    folder.mkdir()
    (folder / OFFER).write_text(offer.model_dump_json())
    with Lab(experiment, tmp_path, Store(tmp_path / ".sia-flow/store")) as lab:
        with pytest.raises(InfrastructureError, match=r"would run here under .* elsewhere under level 0"):
            Helper(lab).help(folder)
        assert Helper(lab).help(tmp_path / "an offer that is over") == 0
    assert [path.name for path in folder.iterdir()] == [OFFER]


def test_sealed_instances_are_given_to_no_helper(tmp_path: Path) -> None:
    spec = make_project(tmp_path)
    (experiment,) = load_experiments(spec)
    folder = tmp_path / "offer"
    folder.mkdir()
    with Lab(experiment, tmp_path, Store(tmp_path / ".sia-flow/store")) as lab:
        answers = (("i", "a"),)
        offer = Offer(split="sealed", instances=2, parts=((0, 1),), isolation=lab.isolation, answers=answers)
        (folder / OFFER).write_text(offer.model_dump_json())
        with pytest.raises(SealedError, match="outside of a reading"):
            Helper(lab).help(folder)


def test_a_part_that_is_done_or_whose_offer_is_over_is_not_done_again(tmp_path: Path) -> None:
    from sia_flow.loop.parts import _take

    calls: list[int] = []

    def do() -> list[Isolation]:
        calls.append(1)
        return [Isolation(level=1, backend="x")]

    assert _take(tmp_path, 0, do) is None
    (tmp_path / OFFER).write_text("{}")
    assert _take(tmp_path, 0, do) == [Isolation(level=1, backend="x")]
    assert _take(tmp_path, 0, do) is None
    assert calls == [1]


def test_a_part_that_somebody_is_at_is_left_or_waited_for(tmp_path: Path) -> None:
    from sia_flow.lineage.claims import claimed
    from sia_flow.loop.parts import _take

    (tmp_path / OFFER).write_text("{}")
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with claimed(tmp_path, "0"):
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    assert _take(tmp_path, 0, lambda: [Isolation(level=1, backend="x")]) is None
    threading.Timer(0.1, let_go.set).start()
    start = time.monotonic()
    # Whoever held it did nothing, as one that died: it is done by who waited.
    assert _take(tmp_path, 0, lambda: [Isolation(level=1, backend="x")], wait=True) is not None
    assert time.monotonic() - start < 30
    thread.join()
