"""Arms and seeds over real processes: each once, controls last, the dead replaced, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.spread import opened_ahead, spread_arms
from sia_flow.errors import InfrastructureError, Interrupted, SiaFlowError, SpecError
from sia_flow.lineage.store import Store
from sia_flow.loop.lab import Lab
from sia_flow.loop.stopping import Stop
from sia_flow.spread.jobs import Job
from tests.flows.world import ROOT, descendants, survivors, until
from tests.spread.world import Heard, alive, began, crew, experiment, pids, project


def test_every_job_is_done_once_and_a_control_knows_the_others(tmp_path: Path) -> None:
    root, heard = project(tmp_path), Heard()
    found = crew(root, heard).run()
    assert found == {Job(a, s): f"key of {a}-{s}" for a in ("H", "W", "N") for s in (0, 1)}
    assert sorted(tuple(one["job"]) for one in began(root)) == sorted(found)
    told = {tuple(one["job"]): one["others"] for one in began(root)}
    assert told["N", 1] == ["key of H-1", "key of W-1"]
    assert told["W", 1] == []
    assert sorted(heard.warnings) == sorted(f"at {job.arm}-{job.seed}" for job in found)
    assert len(pids(root)) <= 2
    until(lambda: not any(alive(pid) for pid in pids(root)), 10)
    assert not list((root / ".sia-flow/store/claims").glob("*"))


def test_a_dead_worker_is_replaced_and_its_job_goes_on(tmp_path: Path) -> None:
    root, heard = project(tmp_path, deaths={"H-0": 1, "W-1": 2}), Heard()
    assert len(crew(root, heard).run()) == 6
    assert len(pids(root)) >= 4
    lost = [text for text in heard.warnings if "another one takes over" in text]
    assert sorted(text.partition(" (")[0] for text in lost) == [
        "the worker of H seed 0",
        "the worker of W seed 1",
        "the worker of W seed 1",
    ]


def test_a_job_whose_workers_keep_dying_ends_the_run(tmp_path: Path) -> None:
    root = project(tmp_path, deaths={"W-0": 99})
    with pytest.raises(InfrastructureError, match="the worker of W seed 0 died 3 times"):
        crew(root).run()
    until(lambda: not any(alive(pid) for pid in pids(root)), 10)


def test_a_job_that_gets_on_may_lose_its_worker_often(tmp_path: Path) -> None:
    root = project(tmp_path, deaths={"W-0": 4}, steps=3)
    assert len(crew(root).run()) == 6
    assert sum(one["job"] == ["W", 0] for one in began(root)) == 5


def test_workers_that_cannot_begin_end_the_run_with_what_they_said(tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / "flows/worker.py").write_text("def work(ticket): raise OSError('no such luck')\n")
    with pytest.raises(InfrastructureError, match=r"(?s)about to begin died 3 times.*no such luck"):
        crew(root).run()


def test_a_fault_stops_the_others_and_is_raised(tmp_path: Path) -> None:
    root = project(tmp_path, faults={"H-1": "the base has changed"}, endless=["H-0"])
    with pytest.raises(SiaFlowError, match=r"^H seed 1: the base has changed$") as caught:
        crew(root).run()
    assert caught.value.exit_code == 8
    assert {tuple(one["job"]) for one in began(root)} == {("H", 0), ("H", 1)}


def test_a_stop_reaches_every_worker(tmp_path: Path) -> None:
    stop = Stop()
    root = project(tmp_path, endless=["H-0"])
    with pytest.raises(Interrupted):
        crew(root, Heard(stop.ask), stop).run()
    assert ["N", 1] not in [one["job"] for one in began(root)]
    until(lambda: not any(alive(pid) for pid in pids(root)), 10)


def test_another_version_is_refused(tmp_path: Path) -> None:
    root = project(tmp_path, version="0.0.1")
    with pytest.raises(SiaFlowError, match=r"has sia-flow 0\.0\.1, this machine .*: install the same"):
        crew(root).run()
    assert began(root) == []


def test_killed_with_its_parent(tmp_path: Path) -> None:
    """kill -9 of the process that runs the experiment leaves no process behind."""
    root = project(tmp_path, endless=["H-0", "H-1"])
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-m", "tests.spread.world", str(root)], env=environ, cwd=ROOT)
    try:
        until(lambda: len(began(root)) == 2)
        own = descendants(parent.pid)
        assert {pid for pid, _ in own} >= pids(root)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: not survivors(own), what=lambda: survivors(own))
    finally:
        parent.kill()
        parent.wait()


def test_a_base_that_is_split_over_processes_already_is_not_spread(tmp_path: Path) -> None:
    chosen = experiment(training={"engine": "fsdp"}, policy={"type": "openai", "base": "tiny"}, spread={"jobs": 2})
    with (
        Lab(chosen, tmp_path, Store(tmp_path / "store")) as lab,
        pytest.raises(SpecError, match=r"leave spec\.spread out"),
    ):
        spread_arms(lab)


def test_only_a_cluster_has_an_address(tmp_path: Path) -> None:
    chosen = experiment(spread={"address": "tcp://h:1"})
    with (
        Lab(chosen, tmp_path, Store(tmp_path / "store")) as lab,
        pytest.raises(SpecError, match=r"set spec\.spread\.type"),
    ):
        spread_arms(lab)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_nothing_of_a_cluster_is_opened_ahead(tmp_path: Path, kind: str) -> None:
    # A launcher of this address would not come to be.
    chosen = experiment(spread={"type": kind, "address": "tcp://127.0.0.1:9"})
    assert opened_ahead(chosen, tmp_path, prefect=False) is None


def test_workers_of_this_machine_are_awaited_by_their_imports(tmp_path: Path) -> None:
    assert opened_ahead(experiment(), tmp_path, prefect=False) is None
    launcher = opened_ahead(experiment(spread={"jobs": 2}), tmp_path, prefect=False)
    assert launcher is not None
    nursery = launcher.begin()
    try:
        assert nursery.poll() is None
    finally:
        launcher.close()
    assert nursery.poll() is not None
