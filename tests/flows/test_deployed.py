"""Deployments on a real Prefect server with a real worker: a schedule fires, a cancelled run ends and goes on."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.lineage.approvals import approvals_of, whoami
from sia_flow.lineage.store import Store
from sia_flow.track.service import Service
from tests.cli.ops_world import call
from tests.flows.deployed import Api, environment_of, serving, working
from tests.flows.world import SPEC, journal, make_project, records, run_here, until

pytestmark = pytest.mark.slow
OFTEN = SPEC.replace("spec:\n", "spec:\n  schedule: {interval: 15}\n")
LONG = OFTEN.replace("small", "long").replace("[SIA-H]", "[{name: W, levers: [weights]}]").replace("15", "3600")
LONG = LONG.replace("iterations: 2", "iterations: 60")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_project(tmp_path_factory.mktemp("deployed"), OFTEN).parents[1]
    (root / "specs/long.yaml").write_text(LONG)
    return root


@pytest.fixture(scope="module")
def environment(root: Path) -> dict[str, str]:
    return environment_of(root)


@pytest.fixture(scope="module")
def api(root: Path, environment: dict[str, str]) -> Iterator[Api]:
    with serving(root, environment) as found:
        yield found


@pytest.fixture(scope="module")
def worker(root: Path, api: Api, environment: dict[str, str]) -> Iterator[Service]:
    with working(root, api, environment) as found:
        yield found


def test_deploying_again_changes_nothing_and_loses_nothing(root: Path, api: Api) -> None:
    # An hour, not seconds: nothing shall come due while the runs are counted.
    names = [f"many-{i}" for i in range(6)]
    for name in names:
        spec = OFTEN.replace("small", name).replace("15", "3600")
        (root / f"specs/{name}.yaml").write_text(spec)
    specs = [f"specs/{name}.yaml" for name in names]
    made = json.loads(call(root, "deploy", *specs, "--runs", "2", "--json"))
    schedules = [api.deployment(name)["schedules"][0]["id"] for name in names]
    assert made == json.loads(call(root, "deploy", *specs, "--runs", "2", "--json"))
    # With a schedule of another id, a time that is just being planned would come twice.
    assert schedules == [api.deployment(name)["schedules"][0]["id"] for name in names]
    until(lambda: all(len(api.runs(name)) >= 3 for name in names), 240, 0.5, api.told)
    for name in names:
        times = [run["expected_start_time"] for run in api.runs(name)]
        assert len(times) == len(set(times))
        # Counted from a fixed day, so that all of them fall on the hour whenever they were deployed.
        assert {time[14:19] for time in times} == {"00:00"}
    found = api.deployment(names[0])
    assert set(found["parameter_openapi_schema"]["properties"]) == {"spec", "generations", "seeds", "overrides"}
    (root / "specs/many-0.yaml").write_text(SPEC.replace("small", "many-0"))
    call(root, "deploy", "specs/many-0.yaml")
    assert api.deployment("many-0")["schedules"] == []
    assert api.deployment("many-0")["job_variables"] == found["job_variables"]
    assert api.states("many-0")["SCHEDULED"] == 0


def test_a_scheduled_run_comes_and_ends_in_the_records_of_apply(
    root: Path, api: Api, worker: Service, tmp_path: Path
) -> None:
    text = call(root, "deploy", "specs/small.yaml")
    assert text.startswith("sia-flow/small: every 15 s\n")
    until(lambda: api.states("small")["COMPLETED"] >= 2, 600, 0.5, api.told)
    # Without its schedule, so that no further run takes the processor from what comes next.
    (root / "specs/small.yaml").write_text(SPEC)
    call(root, "deploy", "specs/small.yaml")
    whole = make_project(tmp_path)
    run_here(whole)
    assert records(root) == records(whole.parents[1])
    assert not api.states("small").keys() & {"FAILED", "CRASHED", "CANCELLED"}
    done = [run for run in api.runs("small") if run["state"]["type"] == "COMPLETED"]
    assert len({run["expected_start_time"] for run in done}) == len(done)


def test_a_run_cancelled_in_the_ui_ends_cleanly_and_goes_on(root: Path, api: Api, worker: Service) -> None:
    call(root, "deploy", "specs/long.yaml")
    form = {"generations": 1, "overrides": ["training.samples=4"]}
    found = api.deployment("long")
    asked = {"parameters": {**found["parameters"], **form}, "state": {"type": "SCHEDULED"}}
    run = api.post(f"/deployments/{found['id']}/create_flow_run", asked)
    until(lambda: any(e["step"] == "train-LoRA" for e in journal(root)), 600, 0.1, api.told)
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    assert api.post(f"/flow_runs/{run['id']}/set_state", cancelling)["status"] == "ACCEPT"
    until(lambda: api.states("long")["CANCELLED"] == 1, 300, 0.5, api.told)
    until(lambda: call(root, "status", "long").startswith("long: stopped"), 90, 0.5, api.told)
    steps = api.post("/task_runs/filter", {"limit": 200, "task_runs": {"name": {"like_": "train-LoRA"}}})
    assert [task["state"]["type"] for task in steps] == ["CANCELLED"]
    (result,) = run_here(root / "specs/long.yaml", "budget.generations=1", "training.samples=4")
    assert len(result.generations) == 2
    done = Counter(e["key"] for e in journal(root) if e["event"] == "done")
    assert max(done.values()) == 1


def test_without_a_server_the_way_to_one_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(root / "none"))
    with pytest.raises(InfrastructureError, match="sia-flow ui"):
        call(root, "deploy", "specs/small.yaml")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(InfrastructureError, match=r"127\.0\.0\.1:9/api does not take deployments"):
        call(root, "deploy", "specs/small.yaml")


def test_an_arm_that_waits_for_a_person_is_paused_and_resume_is_a_yes(api: Api, tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.experiment import experiment

    spec = make_project(tmp_path, SPEC.replace("[SIA-H]", "[{name: Gated, levers: [weights]}]"))
    book = approvals_of(tmp_path / ".sia-flow", "small")
    resumed = []

    def gated() -> list[dict[str, Any]]:
        return list(api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["Gated seed 0"]}}}))

    def waiting(index: int) -> dict[str, Any]:
        words = f"Gated seed 0 gen {index}, weights"
        held = until(lambda: [r for r in gated() if words in (r["state"]["message"] or "")], 240, 0.1, api.told)
        assert held[0]["state"]["type"] == "PAUSED"
        return dict(held[0])

    def answer() -> None:
        resumed.append(api.post(f"/flow_runs/{waiting(1)['id']}/resume", {})["status"])
        waiting(2)
        call(tmp_path, "approve", "small")

    person = threading.Thread(target=answer)
    person.start()
    with temporary_settings({PREFECT_API_URL: api.url}):
        (key,) = experiment(str(spec), ["approve={levers: [weights], timeout: 5m}", "budget.generations=2"])
    person.join()
    assert resumed == ["ACCEPT"]
    history = [state["type"] for state in api.get(f"/flow_run_states/?flow_run_id={gated()[0]['id']}")]
    assert history[-6:] == ["RUNNING", "PAUSED", "RUNNING", "PAUSED", "RUNNING", "COMPLETED"]
    result = Store(tmp_path / ".sia-flow/store").arm(key)
    assert result is not None
    assert (result.stopped, len(result.generations)) == ("budget.generations", 3)
    answers = [asked.answer for asked in book.questions() if asked.answer]
    assert [(found.word, found.by.partition(" on ")[0]) for found in answers] == [("yes", "Resume"), ("yes", whoami())]
