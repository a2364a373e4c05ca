"""The pure parts: entries, the choice of traces, links, the environment, the safe wrapper."""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.lineage.records import Generation, Verdict
from sia_flow.track import entries
from sia_flow.track.environment import profile_server, quiet_environment
from sia_flow.track.links import links
from sia_flow.track.live import LiveBuffer
from sia_flow.track.mlflow import MlflowTracker
from sia_flow.track.safe import SafeTracker
from sia_flow.track.traces import pick
from sia_flow.track.views import ArmView, FinalView, GenerationView, generation_key
from tests.track.conftest import score

verdicts = st.lists(
    st.builds(
        lambda reward, reason: Verdict(reward=reward, valid=reason == "ok", reason=reason),
        st.floats(0, 1),
        st.sampled_from(["ok", "syntax", "guard"]),
    )
)


@given(verdicts, st.integers(0, 12))
def test_picked_traces_are_distinct_and_explained(found: list[Verdict], count: int) -> None:
    chosen = pick(found, count)
    assert len({index for index, _ in chosen}) == len(chosen) <= count
    for index, why in chosen:
        assert found[index].valid == (why != "failed")
    if chosen and any(v.valid for v in found):
        assert found[chosen[0].position].reward == max(v.reward for v in found if v.valid)


def test_a_failure_of_each_reason_is_picked_once() -> None:
    reasons = ["syntax", "syntax", "guard", "syntax"]
    found = [Verdict(reward=0.0, valid=False, reason=reason) for reason in reasons]
    assert [index for index, _ in pick(found, 8)] == [0, 2]


def test_params_are_flat_and_within_the_limits() -> None:
    flat = entries.flatten({"a": {"b": [1, 2], "c d%": None}, "long": "x" * 9000}, "spec")
    assert flat["spec.a.b"] == "[1, 2]"
    assert flat["spec.a.c d_"] == "null"
    assert len(flat["spec.long"]) == entries.VALUE_LIMIT


def test_a_first_generation_has_no_lever(generation: Callable[..., Generation]) -> None:
    assert entries.generation_params(generation(0))["lever"] == "first"
    assert entries.generation_params(generation(1))["edit"] == "KNN 5 -> 7"


def test_the_goodhart_gap_counts_from_generation_0(view: Callable[..., GenerationView], final: FinalView) -> None:
    shown = view(1, train=score("train", 0.5), guards={"poisson": -0.01})
    assert entries.goodhart_points(shown) == []
    first = view(0).generation
    found = {point.key: point.value for point in entries.goodhart_points(replace(shown, first=first))}
    assert found["goodhart/gap"] == pytest.approx(0.5 - 0.21)
    assert found["goodhart/growth"] == pytest.approx(0.5 - 0.21 - (0.2 - 0.21))
    assert found["goodhart/guard/poisson"] == pytest.approx(-0.03)
    assert found["goodhart/alarms"] >= 1
    end = {point.key: point.value for point in entries.final_points(final)}
    natural = 0.08 - 0.081
    assert end["goodhart/select_less_sealed"] == pytest.approx(0.23 - 0.22 - natural)


def test_keys_tell_arms_seeds_and_places_apart(arm: ArmView) -> None:
    others = [ArmView("denoise", "run-1", name, seed) for name in ("SIA-H", "SIA-W+H") for seed in (0, 1)]
    assert len({generation_key(other, index) for other in others for index in range(3)}) == 12
    assert generation_key(others[2], 0) == generation_key(arm, 0)


def test_links_name_the_runs_first_and_quote_them(tmp_path: Path) -> None:
    found = links("sqlite:////p/mlflow.db", tmp_path, "3", {"SIA-H": "r1", "SIA-W+H": "r2"})
    address, _, query = found.compare.partition("?")
    assert address == "http://127.0.0.1:5000/#/compare-runs"
    first, second = query.split("&")
    assert json.loads(unquote(first.removeprefix("runs="))) == ["r1", "r2"]
    assert json.loads(unquote(second.removeprefix("experiments="))) == ["3"]
    assert found.runs["SIA-H"] == "http://127.0.0.1:5000/#/experiments/3/runs/r1"
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --workers 1" in found.command
    assert links("http://team:8080/", tmp_path, "3", {}).experiment == "http://team:8080/#/experiments/3"


def test_telemetry_is_off_whatever_the_user_has_set(tmp_path: Path) -> None:
    quiet = quiet_environment(tmp_path, {"DO_NOT_TRACK": "0", "PREFECT_LOGGING_LEVEL": "DEBUG", "HOME": "/nope"})
    assert quiet["DO_NOT_TRACK"] == "true"
    assert quiet["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert quiet["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert quiet["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert "PREFECT_LOGGING_LEVEL" not in quiet


def test_the_active_profile_names_the_server(tmp_path: Path) -> None:
    profile = '[profiles.team]\nPREFECT_API_URL = "http://team:4200/api"\nPREFECT_API_KEY = "k"\n[profiles.own]\n'
    (tmp_path / "profiles.toml").write_text(f'active = "team"\n{profile}')
    assert profile_server({"PREFECT_HOME": str(tmp_path)}) == {
        "PREFECT_API_URL": "http://team:4200/api",
        "PREFECT_API_KEY": "k",
    }
    assert profile_server({"PREFECT_HOME": str(tmp_path), "PREFECT_PROFILE": "own"}) == {}
    environ = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "http://mine/api"}
    assert profile_server(environ) == {"PREFECT_API_URL": "http://mine/api"}
    assert quiet_environment(tmp_path, {"PREFECT_HOME": str(tmp_path)})["PREFECT_API_KEY"] == "k"


def test_a_broken_profile_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text("active = [")
    assert profile_server({"PREFECT_HOME": str(tmp_path)}) == {}


def test_a_broken_tracker_costs_one_warning(
    tmp_path: Path, view: Callable[..., GenerationView], final: FinalView, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mlruns").write_text("a file where the folder should be")
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    tracker = SafeTracker(lambda: MlflowTracker(uri, tmp_path / "artifacts", "denoise"))
    with caplog.at_level(logging.WARNING):
        tracker.arm(final.arm)
        tracker.generation(view(0))
        tracker.live(final.arm, 1, 0, {"reward_mean": 0.1})
        tracker.final(final)
    assert tracker.dirty
    assert len([r for r in caplog.records if r.name == "sia_flow.track"]) == 1
    assert "FileExistsError" in tracker.reason


class Flaky:
    """A tracker that fails on the calls named."""

    def __init__(self, *failing: int) -> None:
        self.calls = 0
        self.failing = failing

    def arm(self, view: ArmView) -> None:
        self.calls += 1
        if self.calls in self.failing:
            raise ConnectionError

    generation = final = live = arm


@pytest.mark.parametrize(("failing", "calls"), [((1, 2, 3), 3), ((1, 2, 4, 5, 7), 8), ((), 8)])
def test_a_tracker_is_left_alone_after_three_faults_in_a_row(
    arm: ArmView, failing: tuple[int, ...], calls: int
) -> None:
    flaky = Flaky(*failing)
    safe = SafeTracker(lambda: flaky)
    for _ in range(8):
        safe.arm(arm)
    assert flaky.calls == calls
    assert safe.dirty == bool(failing)


def test_a_tracker_is_made_once_and_in_the_background(arm: ArmView) -> None:
    made: list[Flaky] = []
    release = threading.Event()

    def make() -> Flaky:
        assert release.wait(20)
        made.append(Flaky())
        return made[0]

    safe = SafeTracker(make)
    safe.start_async()
    assert not made
    release.set()
    safe.arm(arm)
    assert [tracker.calls for tracker in made] == [1]


def test_an_interrupt_is_not_swallowed(arm: ArmView) -> None:
    def interrupted() -> Flaky:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SafeTracker(interrupted).arm(arm)


def test_a_buffer_writes_when_it_is_full_and_once() -> None:
    written: list[tuple[str, int]] = []
    buffer = LiveBuffer(lambda key, points: written.append((key, len(points))), seconds=1e9, size=4)
    buffer.flush()
    for step in range(5):
        buffer.add("run", step, {"a": 1.0, "b": 2.0})
    buffer.flush()
    buffer.flush()
    assert written == [("run", 4), ("run", 4), ("run", 2)]
