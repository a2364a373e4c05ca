"""Workers as tasks of a cluster: the same crew on Dask or Ray, where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from sia_flow.errors import InfrastructureError, SpecError
from sia_flow.lineage.store import Store
from sia_flow.loop.stopping import Stop
from sia_flow.spec.models import Spread
from sia_flow.spread.clusters import open_cluster
from sia_flow.spread.crew import Crew, Run
from tests.flows.world import ROOT, until
from tests.spread.world import Heard, alive, began, experiment, pids, project

PACKAGE = {"dask": "distributed", "ray": "ray"}


@pytest.fixture(params=["dask", "ray"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if importlib.util.find_spec(PACKAGE[request.param]) is None:
        pytest.skip(f"{PACKAGE[request.param]} is not installed (the extra {request.param})")
    # Workers are processes of their own, which have to find the package.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return str(request.param)


def crew(root: Path, spread: Spread, heard: Heard, stop: Stop | None = None) -> Crew:
    run = Run(experiment(), root, Store(root / ".sia-flow/store"), heard, stop or Stop())
    return Crew(run, open_cluster(spread), 2)


def test_a_cluster_runs_every_job_once_and_replaces_the_dead(tmp_path: Path, kind: str) -> None:
    root, heard = project(tmp_path, deaths={"W-0": 1}), Heard()
    assert len(crew(root, Spread(type=kind, jobs=2), heard).run()) == 6  # type: ignore[arg-type]
    jobs = sorted(tuple(one["job"]) for one in began(root))
    assert jobs == sorted([(a, s) for a in ("H", "W", "N") for s in (0, 1)] + [("W", 0)])
    assert any("the worker of W seed 0" in text for text in heard.warnings)
    until(lambda: not any(alive(pid) for pid in pids(root)))


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
def test_a_cluster_elsewhere_is_reached_over_tcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    root = project(tmp_path)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as one:
        opened = crew(root, Spread(type="dask", address=one.scheduler_address), Heard())
        assert opened._door.address.port is not None
        assert opened._launcher.seats == 2
        assert len(opened.run()) == 6


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
def test_a_scheduler_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sia_flow.spread.clusters.PATIENCE", 1)
    with pytest.raises(InfrastructureError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        open_cluster(Spread(type="dask", address="tcp://127.0.0.1:9"))


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_what_is_not_installed_is_named_with_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE[kind], None)
    with pytest.raises(SpecError, match=rf"needs the package {PACKAGE[kind]}: pip install 'sia-flow\[{kind}\]'"):
        open_cluster(Spread(type=kind))  # type: ignore[arg-type]


def test_an_address_without_a_host_is_refused(kind: str) -> None:
    with pytest.raises(SpecError, match="names no host"):
        open_cluster(Spread(type=kind, address="auto"))  # type: ignore[arg-type]
