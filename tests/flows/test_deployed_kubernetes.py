"""Runs of a deployment as Jobs: a real Prefect server and Kubernetes worker on a small cluster of the tests' own.

The project in the image lies elsewhere than the one that was deployed, and every pod finds it as it was built.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.lineage.check import check_store
from sia_flow.lineage.mirror import pull
from sia_flow.lineage.store import Store
from tests.cli.ops_world import call
from tests.flows.cluster import Cluster, Object
from tests.flows.deployed import Api, environment_of, serving, working
from tests.flows.warm import QUIET, ROOT
from tests.flows.world import SPEC, journal, make_project, records, run_here, until

pytestmark = pytest.mark.slow
LONG = SPEC.replace("[SIA-H]", "[{name: W, levers: [weights]}]").replace("iterations: 2", "iterations: 20")
"""What is killed, moved and cancelled: long steps, of which none may be done twice."""


@dataclass(frozen=True, slots=True)
class Site:
    """All that a test has: where specs are deployed from, the server, the cluster."""

    root: Path
    api: Api
    cluster: Cluster
    at: Path
    """The project in the pods."""

    def deploy(self, name: str, text: str, **pool: Any) -> Path:
        """Deploy a spec; return the place of its records."""
        store = self.root.parent / f"store-{name}"
        asked = {"type": "kubernetes", "image": "sia-flow:1", "project": str(self.at), **pool}
        asked |= {} if "claim" in pool else {"store": str(store)}
        fields = ", ".join(f"{key}: {value!r}" for key, value in asked.items())
        for folder in (self.root, *self.cluster.images.values()):
            path = folder / f"specs/{name}.yaml"
            path.write_text(text.replace("small", name).replace("spec:\n", f"spec:\n  pool: {{{fields}}}\n"))
        assert call(self.root, "deploy", f"specs/{name}.yaml").startswith(f"sia-flow/{name}: when started by hand\n")
        return store

    def start(self, name: str, **form: Any) -> str:
        """Ask for a run, as the form on a deployment's page does; return its id."""
        found = self.api.deployment(name)
        asked = {"parameters": {**found["parameters"], **form}, "state": {"type": "SCHEDULED"}}
        return str(self.api.post(f"/deployments/{found['id']}/create_flow_run", asked)["id"])

    def job(self, run: str, after: Object | None = None) -> Object:
        """Return the Job of a run, or the one after another, when it is there."""
        before = after["metadata"]["name"] if after else None
        found = until(
            lambda: [job for job in self.cluster.jobs(run) if job["metadata"]["name"] != before], 120, 0.1, self.told
        )
        return dict(found[0])

    def ends(self, run: str, state: str) -> None:
        """Wait for the end of a run, which is to be in a state."""
        over = {"COMPLETED", "CANCELLED", "CRASHED", "FAILED"}
        found = until(lambda: {self.state(run)} & over, 120, 0.2, self.told)
        assert found == {state}, self.told()

    def state(self, run: str) -> str:
        return str(self.api.get(f"/flow_runs/{run}")["state"]["type"])

    def trains(self, run: str) -> None:
        """Wait until the first pod of a run is in a step that takes long."""
        job = self.job(run)
        until(lambda: self.cluster.pod(job)["status"]["phase"] == "Running", 60, 0.05, self.told)
        until(lambda: any(e["step"] == "train-LoRA" for e in journal(self.at)), 240, 0.05, self.told)

    def done(self) -> int:
        """How many steps have a record in the pod."""
        return sum(e["event"] == "done" for e in journal(self.at))

    def told(self) -> str:
        return f"{self.api.told()}\n{self.cluster.unknown}\n{self.cluster.told()}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("kubernetes")
    root, image, hasty, at = folder / "here", folder / "image", folder / "hasty", folder / "pod/project"
    make_project(root)
    environment = environment_of(root)
    # The pods' projects have no server's state, and sia-flow itself is theirs.
    make_project(image, started=False)
    (image / "sia_flow").symlink_to(ROOT / "sia_flow")
    shutil.copytree(image, hasty, symlinks=True)
    carrying = hasty / "flows/carrying.py"
    carrying.write_text(carrying.read_text().replace("EVERY_SECONDS = 120.0", "EVERY_SECONDS = 0.5"))
    home = {"HOME": str(folder / "home"), "MLFLOW_TRACKING_URI": environment["MLFLOW_TRACKING_URI"], **QUIET}
    plain = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **home}
    secret = {"agents": {"ANTHROPIC_API_KEY": "not a key"}}
    images = {"sia-flow:1": image, "sia-flow:hasty": hasty}
    with Cluster(folder / "cluster", images, at, plain, secret) as cluster, serving(root, environment) as api:
        found = Site(root, api, cluster, at)
        found.deploy("small", SPEC, secret="agents", memory="4GiB", cpus=1.5, gpus=1)
        own = {"KUBECONFIG": str(cluster.kubeconfig()), "PREFECT_WORKER_QUERY_SECONDS": "1"}
        with working(root, api, {**environment, **own}, "sia-flow-kubernetes", "kubernetes"):
            yield found
        assert cluster.unknown == []


def container_of(job: Object) -> Object:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def fetched(store: Path, folder: Path) -> Path:
    """Return a project's folder with the records of a place, whole and sound."""
    pull(folder / ".sia-flow", str(store))
    assert check_store(Store(folder / ".sia-flow/store")).faults == []
    return folder


def test_a_run_is_a_job_and_its_records_are_those_of_apply(site: Site, tmp_path: Path) -> None:
    run = site.start("small")
    job = site.job(run)
    container = container_of(job)
    environ = {entry["name"]: entry["value"] for entry in container["env"]}
    assert (job["metadata"]["namespace"], container["image"]) == ("default", "sia-flow:1")
    size = str(4 << 30)
    assert container["resources"] == {
        "limits": {"memory": size, "nvidia.com/gpu": "1"},
        "requests": {"cpu": "1.5", "memory": size},
    }
    assert container["envFrom"] == [{"secretRef": {"name": "agents"}}]
    assert not job["spec"]["template"]["spec"].keys() & {"volumes"}
    assert environ["PYTHONPATH"] == str(site.at)
    assert environ["PREFECT__FLOW_RUN_ID"] == run
    site.ends(run, "COMPLETED")
    whole = make_project(tmp_path / "whole")
    run_here(whole)
    store = site.root.parent / "store-small"
    assert records(fetched(store, tmp_path / "there")) == records(whole.parents[1])
    assert records(site.root) == {}
    before = {
        path: path.stat().st_mtime_ns for kind in ("steps", "files") for path in (store / "store" / kind).rglob("*")
    }
    again = site.start("small")
    site.ends(again, "COMPLETED")
    assert site.done() == len([entry for entry in journal(tmp_path / "there") if entry["event"] == "done"])
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_cancelled_in_the_ui_brings_its_records_and_the_next_goes_on(site: Site, tmp_path: Path) -> None:
    store = site.deploy("cancelled", LONG)
    run = site.start("cancelled")
    site.trains(run)
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    assert site.api.post(f"/flow_runs/{run}/set_state", cancelling)["status"] == "ACCEPT"
    site.ends(run, "CANCELLED")
    until(lambda: site.cluster.pod(site.job(run))["status"]["phase"] != "Running", 60, 0.1, site.told)
    there = fetched(store, tmp_path / "there")
    assert records(there) == records(site.at)
    begun = site.done()
    assert begun > 0
    second = site.start("cancelled")
    site.ends(second, "COMPLETED")
    done = Counter(e["key"] for e in journal(site.at) if e["event"] == "done")
    assert len(done) > begun
    assert max(done.values()) == 1


def test_a_run_is_moved_then_loses_its_machine_and_comes_to_the_same_records(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sia_flow.track.pools.KEPT_SECONDS", 1)
    store = site.deploy("moved", LONG)
    run = site.start("moved")
    site.trains(run)
    first = site.job(run)
    # The next pod brings its records often; this one has not, so that what it had done came when it was moved.
    site.deploy("moved", LONG, image="sia-flow:hasty")
    assert not (store / "store/steps").exists()
    begun = records(site.at, "steps")
    site.cluster.evict(site.cluster.pod(first))
    moved = records(fetched(store, tmp_path / "moved"), "steps")
    assert begun.items() <= moved.items()
    second = site.job(run, first)
    until(lambda: len(list((store / "store/steps").rglob("*.json"))) > len(moved), 240, 0.02, site.told)
    site.cluster.kill(site.cluster.pod(second))
    site.ends(run, "CRASHED")
    assert len(records(fetched(store, tmp_path / "lost"), "steps")) > len(moved)
    third = site.start("moved")
    site.ends(third, "COMPLETED")
    whole = make_project(tmp_path / "whole", LONG.replace("small", "moved"))
    run_here(whole)
    assert records(fetched(store, tmp_path / "after")) == records(whole.parents[1])


def test_a_job_with_a_claim_mounts_it_as_the_project_and_has_the_namespace(site: Site) -> None:
    site.deploy("claimed", SPEC, claim="group", namespace="lab")
    run = site.start("claimed")
    job = site.job(run)
    assert job["metadata"]["namespace"] == "lab"
    assert job["spec"]["template"]["spec"]["volumes"] == [
        {"name": "project", "persistentVolumeClaim": {"claimName": "group"}}
    ]
    container = container_of(job)
    assert container["volumeMounts"] == [{"name": "project", "mountPath": str(site.at)}]
    assert not container.keys() & {"envFrom", "lifecycle"}
    assert container["resources"] == {"limits": {}, "requests": {}}
    # Its pod waits for ever, and would keep the pool's one place.
    site.api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


def test_a_pool_that_starts_something_else_is_refused_by_name(site: Site) -> None:
    (site.root / "specs/plain.yaml").write_text(SPEC.replace("small", "plain"))
    with pytest.raises(
        InfrastructureError, match="'sia-flow-kubernetes' is of type kubernetes, and the spec asks for p"
    ):
        call(site.root, "deploy", "specs/plain.yaml", "--pool", "sia-flow-kubernetes")
    call(site.root, "deploy", "specs/plain.yaml")
    with pytest.raises(InfrastructureError, match="'sia-flow' is of type process, and the spec asks for kubernetes"):
        call(site.root, "deploy", "specs/small.yaml", "--pool", "sia-flow")
    with pytest.raises(InfrastructureError, match="'both' is of type process"):
        call(site.root, "deploy", "specs/plain.yaml", "specs/small.yaml", "--pool", "both")


def test_a_pool_without_a_place_for_what_a_job_needs_is_refused_by_name(site: Site) -> None:
    from prefect_kubernetes.worker import KubernetesWorker

    pool = {
        "name": "theirs",
        "type": "kubernetes",
        "base_job_template": KubernetesWorker.get_default_base_job_template(),
    }
    site.api.post("/work_pools/", pool)
    with pytest.raises(InfrastructureError, match="'theirs' has no place for env_from, gpu_limit, lifecycle"):
        call(site.root, "deploy", "specs/small.yaml", "--pool", "theirs")
