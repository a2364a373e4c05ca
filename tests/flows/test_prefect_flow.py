"""One project through Prefect and MLflow, with the real private server."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sia_flow.track.environment import quiet_environment
from sia_flow.track.mlflow import default_uri
from sia_flow.track.server import PrefectServer
from tests.flows.once import made_once
from tests.flows.world import (
    SPEC,
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

ARMS = SPEC.replace("[SIA-H]", "[{name: W, levers: [weights]}]")
APPLY = ("apply", "specs/small.yaml")
pytestmark = pytest.mark.slow


class Seen(NamedTuple):
    """What Prefect's database says."""

    flows: list[tuple[str, str]]
    """Name and state of each flow run, oldest first."""
    tasks: list[tuple[str, str]]
    """Name and state of each step's run, oldest first."""
    artifacts: set[str]


@pytest.fixture(autouse=True, scope="module")
def no_server_of_the_user() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def applied() -> Path:
    """A project after an apply under Prefect; nobody changes it."""
    return made_once("shown", lambda folder: sia_flow(*APPLY, cwd=make_project(folder, ARMS).parents[1]))


def look(root: Path) -> Seen:
    """Ask Prefect's client over a server on the project's database."""
    with PrefectServer(root / ".sia-flow", environ={}) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {**quiet_environment(root / ".sia-flow", {}), **server.variables()}.items():
            patch.setenv(name, value)
        return asyncio.run(_ask(server.wait()))


async def _ask(url: str) -> Seen:
    from prefect.client.orchestration import PrefectClient

    async with PrefectClient(url) as client:
        flows = sorted(await client.read_flow_runs(), key=lambda run: run.created)
        tasks = sorted(await client.read_task_runs(limit=200), key=lambda run: run.created)
        artifacts = await client.read_artifacts()
        return Seen(
            [(run.name, run.state_name) for run in flows],
            [(run.name, run.state_name) for run in tasks if not run.name.startswith("improve-")],
            {artifact.key for artifact in artifacts},
        )


def runs(root: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(root, {}))
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    return client.search_runs([experiment.experiment_id], order_by=["attribute.start_time ASC"])


def test_prefect_and_mlflow_show_the_run(applied: Path) -> None:
    seen = look(applied)
    assert seen.flows == [("small", "Completed"), ("W seed 0", "Completed")]
    names = {name.partition(":")[0] for name, _ in seen.tasks}
    assert names == {"scaffold synth", "rollout", "verify", "feedback", "train-LoRA", "select program"}
    assert {"rollout: W seed 0 gen 0 train", "verify: W seed 0 sealed"} <= {name for name, _ in seen.tasks}
    assert Counter(state for _, state in seen.tasks)["Completed"] == len(done_steps(applied))
    assert {"small-w-seed-0-gen-0", "small-w-seed-0-gen-1", "small-comparison"} <= seen.artifacts

    found = {run.info.run_name: run for run in runs(applied)}
    assert set(found) == {"W seed 0", "gen-0", "gen-1"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    parent = found["W seed 0"].info.run_id
    assert {found[name].data.tags["mlflow.parentRunId"] for name in ("gen-0", "gen-1")} == {parent}
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(applied, {}))
    metrics = found["W seed 0"].data.metrics
    assert metrics
    histories = {name: [m.step for m in client.get_metric_history(parent, name)] for name in metrics}
    assert [0, 1] in [sorted(steps) for steps in histories.values()]
    trained = found["gen-1"].data.metrics
    assert any(
        sorted({m.step for m in client.get_metric_history(found["gen-1"].info.run_id, name)}) == [0, 1]
        for name in trained
    )
    files = {file.path for file in client.list_artifacts(found["gen-1"].info.run_id, "adapter")}
    assert any(name.endswith(".safetensors") for name in files)


def test_one_server_shows_all_experiments_of_a_file(tmp_path: Path) -> None:
    several = "matrix:\n  spec.search.trials: [1, 2]\n" + SPEC
    root = make_project(tmp_path, several).parents[1]
    assert "no Prefect server" not in sia_flow(*APPLY, cwd=root)
    assert [state for _, state in look(root).flows] == ["Completed"] * 4


def test_a_rerun_without_the_arm_results_shows_every_step_as_cached(applied: Path, tmp_path: Path) -> None:
    root = tmp_path / "again"
    shutil.copytree(applied, root)
    before, log = records(root), journal(root)
    for path in (root / ".sia-flow/store/arms").glob("*.json"):
        path.unlink()
    sia_flow(*APPLY, cwd=root)
    seen = look(root)
    half = len(seen.tasks) // 2
    old, fresh = seen.tasks[:half], seen.tasks[half:]
    assert Counter(name for name, _ in fresh) == Counter(name for name, _ in old)
    assert {state for _, state in fresh} == {"Cached"}
    assert {state for _, state in seen.flows} == {"Completed"}
    assert records(root) == before
    assert journal(root) == log
    assert "nothing to do" in sia_flow(*APPLY, cwd=root)


def server_of(pid: int) -> int | None:
    for child, _ in descendants(pid):
        try:
            if b"uvicorn" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        except OSError:
            continue
    return None


def test_a_server_that_dies_costs_a_warning(applied: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path, ARMS).parents[1]
    process = start(*APPLY, cwd=root)
    try:
        until(lambda: len(journal(root)) > 3 or process.poll() is not None, 120)
        server = server_of(process.pid)
        assert server is not None, output(process)
        os.kill(server, signal.SIGKILL)
        assert process.wait(timeout=240) == 0, output(process)
    finally:
        end(process)
    assert "the Prefect server went away" in output(process)
    for noise in ("Traceback", "Error logging", "EventsWorker"):
        assert noise not in output(process)
    assert records(root) == records(applied)


def test_kill_9_of_apply_leaves_no_server_behind(applied: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path, ARMS).parents[1]
    process = start(*APPLY, cwd=root)
    try:
        until(lambda: len(journal(root)) > 2 or process.poll() is not None, 120)
        own = descendants(process.pid)
        assert server_of(process.pid) is not None, output(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not survivors(own), 3.0)
    finally:
        end(process)
    sia_flow(*APPLY, "--engine", "local", cwd=root)
    assert records(root) == records(applied)


def test_an_unwritable_tracker_costs_a_warning(applied: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path, ARMS, started=False).parents[1]
    (root / "mlruns").write_text("a file where the folder should be")
    text = sia_flow(*APPLY, "--engine", "local", cwd=root)
    assert "warning: MLflow misses part of this run" in text
    assert "Traceback" not in text
    assert records(root) == records(applied)


def test_ctrl_c_under_prefect(applied: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path, ARMS).parents[1]
    process = start(*APPLY, cwd=root)
    try:
        until(lambda: len(journal(root)) > 3 or process.poll() is not None, 120)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 130, output(process)
    finally:
        end(process)
    assert "the same command again goes on" in output(process)
    assert "Traceback" not in output(process)
    assert "Error logging" not in output(process)
    run_here(root / "specs/small.yaml")
    assert records(root) == records(applied)
