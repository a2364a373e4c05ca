import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sia_flow.track.mlflow import MlflowTracker, default_artifacts, default_uri
from sia_flow.track.runs import _prepare_database
from sia_flow.track.views import ArmView, FinalView, GenerationView, generation_key
from tests.track.conftest import score

View = Callable[..., GenerationView]


@pytest.fixture
def project(tmp_path: Path, migrated: bytes) -> Path:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(migrated)
    return tmp_path


def make(project: Path) -> MlflowTracker:
    return MlflowTracker(default_uri(project, {}), default_artifacts(project) / "denoise", "denoise", sampled=4)


@pytest.fixture
def tracker(project: Path) -> MlflowTracker:
    return make(project)


def everything(project: Path) -> list[tuple[object, ...]]:
    """Rows of all that a tracker writes."""
    tables = ("runs", "params", "metrics", "tags", "inputs", "trace_info", "spans", "assessments")
    with sqlite3.connect(project / "mlruns" / "mlflow.db") as connection:
        return [(t, row) for t in tables for row in sorted(connection.execute(f"SELECT * FROM {t}"), key=str)]


def history(tracker: MlflowTracker, key: str, metric: str) -> list[tuple[int, float]]:
    client = tracker._runs.client
    return [(m.step, m.value) for m in client.get_metric_history(tracker.run_id(key), metric)]


def test_a_generation_shows_all_of_its_record(tracker: MlflowTracker, view: View) -> None:
    shown = view(1)
    tracker.arm(shown.arm)
    tracker.generation(shown)
    run = tracker._runs.client.get_run(tracker.run_id(shown.key))
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == tracker.run_id(shown.arm.key)
    assert run.data.params["algorithm"] == "grpo"
    assert run.data.params["isolation"] == "2 bubblewrap"
    assert run.data.metrics["select/mean"] == pytest.approx(0.21)
    assert run.data.metrics["guard/poisson"] == 0.02
    assert run.data.metrics["spend/rollouts"] == 128
    assert run.inputs.dataset_inputs[0].dataset.digest == "d" * 36
    assert history(tracker, shown.key, "training/kl_base") == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_artifacts_hold_scaffold_diff_report_adapter_and_plots(
    tracker: MlflowTracker, view: View, project: Path
) -> None:
    shown = view(1)
    tracker.generation(shown)
    folder = project / "mlruns" / "artifacts" / "denoise" / tracker.run_id(shown.key) / "artifacts"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "scaffold/scaffold.py",
        "scaffold.diff",
        "decision.md",
        "adapter/adapter_config.json",
        "plots/score.png",
    }
    assert (folder / "scaffold.diff").read_text() == shown.diff


def test_the_parent_gets_params_of_the_spec_and_scores_by_generation(tracker: MlflowTracker, view: View) -> None:
    for index in range(3):
        tracker.generation(view(index, mean=0.1 * index))
    arm = view(0).arm
    params = tracker._runs.client.get_run(tracker.run_id(arm.key)).data.params
    assert params["spec.task.mode"] == "guarded"
    assert params["spec.seeds"] == "[0, 1]"
    assert [step for step, _ in history(tracker, arm.key, "select/mean")] == [0, 1, 2]


def test_showing_it_again_changes_nothing(project: Path, view: View, final: FinalView) -> None:
    def show() -> None:
        tracker = make(project)
        tracker.arm(final.arm)
        for index in range(2):
            tracker.generation(view(index))
        tracker.final(final)

    show()
    before = everything(project)
    show()
    assert everything(project) == before


def test_what_a_killed_process_left_is_taken_over(project: Path, view: View) -> None:
    shown = view(1)
    killed = make(project)
    run = killed._child(shown.arm, 1)
    killed.live(shown.arm, 1, 0, shown.generation.training[0])
    killed.flush()
    tracker = make(project)
    tracker.generation(shown)
    assert tracker.run_id(shown.key) == run.id
    assert tracker._runs.client.get_run(run.id).info.status == "FINISHED"
    assert history(tracker, shown.key, "training/kl_base") == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_half_written_traces_are_completed_once(project: Path, view: View) -> None:
    shown = view(0)
    first = make(project)
    first._traces(first._child(shown.arm, 0), shown)
    tracker = make(project)
    tracker.generation(shown)
    traces = tracker._runs.client.search_traces(locations=[tracker.experiment_id])
    assert len(traces) == 4
    assert all(len(trace.info.assessments) == 1 for trace in traces)


def test_traces_show_best_worst_and_failures_with_calls_in_order(tracker: MlflowTracker, view: View) -> None:
    shown = view(0)
    tracker.generation(shown)
    found = tracker._runs.client.search_traces(locations=[tracker.experiment_id])
    kinds = sorted((t.info.tags["sia.sample"], t.info.assessments[0].value) for t in found)
    assert kinds == [("best", 0.2), ("best", 0.3), ("failed", 0.0), ("worst", 0.1)]
    spans = found[0].data.spans
    assert [span.name for span in sorted(spans, key=lambda s: s.start_time_ns)] == [
        "rollout",
        "generate",
        "score_visible",
        "generate",
    ]
    assert all(trace.info.trace_metadata["mlflow.sourceRun"] == tracker.run_id(shown.key) for trace in found)


def test_another_record_in_the_same_place_gets_a_run_of_its_own(tracker: MlflowTracker, view: View) -> None:
    old, new = view(0), view(0, id="7" * 64, verdict="made anew")
    tracker.generation(old)
    before = tracker.run_id(old.key)
    tracker.generation(new)
    client = tracker._runs.client
    assert tracker.run_id(new.key) != before
    assert client.get_run(before).data.tags["sia.key"].endswith("/superseded")
    assert client.get_run(tracker.run_id(new.key)).data.tags["sia.verdict"] == "made anew"


def test_live_steps_are_written_in_batches(project: Path, arm: ArmView) -> None:
    tracker = make(project)
    tracker.live(arm, 2, 0, {"reward_mean": 0.0})
    for step in range(1, 20):
        tracker.live(arm, 2, step, {"reward_mean": float(step)})
    key = generation_key(arm, 2)
    assert len(history(tracker, key, "training/reward_mean")) < 20
    tracker.flush()
    assert history(tracker, key, "training/reward_mean") == [(step, float(step)) for step in range(20)]


def test_the_goodhart_gap_is_in_both_runs(tracker: MlflowTracker, view: View) -> None:
    shown = replace(view(1, train=score("train", 0.5)), first=view(0).generation)
    tracker.generation(shown)
    for key in (shown.key, shown.arm.key):
        assert history(tracker, key, "goodhart/growth") == [(1, pytest.approx(0.3))]


def test_the_end_of_an_arm_shows_sealed_best_and_baselines(tracker: MlflowTracker, final: FinalView) -> None:
    tracker.final(final)
    run = tracker._runs.client.get_run(tracker.run_id(final.arm.key))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["sealed/mean"] == 0.22
    assert run.data.metrics["best_program/sealed"] == 0.28
    assert run.data.metrics["baseline/magic/sealed"] == 0.081
    assert run.data.metrics["factorial/best-base"] == 0.2
    assert run.data.tags["sia.stopped"] == "budget.generations"


def test_an_extended_arm_is_shown_further(tracker: MlflowTracker, final: FinalView) -> None:
    tracker.final(final)
    more = final.result.model_copy(update={"generations": ("0" * 64, "1" * 64, "2" * 64)})
    tracker.final(replace(final, result=more))
    tags = tracker._runs.client.get_run(tracker.run_id(final.arm.key)).data.tags
    assert tags["sia.generations"] == "3"


def test_the_database_is_put_into_write_ahead_mode(tmp_path: Path) -> None:
    path = tmp_path / "mlruns" / "mlflow.db"
    _prepare_database(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_users_own_server_wins(tmp_path: Path) -> None:
    assert default_uri(tmp_path, {"MLFLOW_TRACKING_URI": "http://team:5000"}) == "http://team:5000"
    assert default_uri(tmp_path, {}) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def test_the_module_costs_no_import_of_mlflow() -> None:
    code = "import sys, sia_flow.track.mlflow, sia_flow.track.safe; print('mlflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_an_arm_that_was_left_is_ended_and_goes_on(
    tracker: MlflowTracker, arm: ArmView, view: View, final: FinalView
) -> None:
    tracker.generation(view(0))
    tracker.live(arm, 1, 0, {"reward_mean": 0.1})
    tracker.flush()
    tracker.halt(arm, "KILLED")
    runs = {run.info.run_name: run.info.status for run in _runs(tracker)}
    assert runs == {f"{arm.arm} seed 0": "KILLED", "gen-0": "FINISHED", "gen-1": "KILLED"}
    tracker.live(arm, 1, 1, {"reward_mean": 0.2})
    tracker.flush()
    assert {run.info.status for run in _runs(tracker)} == {"RUNNING", "FINISHED"}
    tracker.generation(view(1))
    tracker.final(final)
    tracker.halt(arm, "FAILED")
    assert {run.info.status for run in _runs(tracker)} == {"FINISHED"}


def test_a_page_is_the_artifact_of_one_run(tracker: MlflowTracker, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    for text in ("first", "second"):
        page.write_text(text)
        tracker.page(page)
    (run,) = _runs(tracker)
    client = tracker._runs.client
    assert Path(client.download_artifacts(run.info.run_id, "report.html")).read_text() == "second"


def _runs(tracker: MlflowTracker) -> list[object]:
    return list(tracker._runs.client.search_runs([tracker.experiment_id]))
