"""Records and views as the loop makes them, small."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sia_flow.lineage.records import (
    Decision,
    Edit,
    Generation,
    Isolation,
    Score,
    Spend,
    ToolCall,
    Trajectory,
    Turn,
    Verdict,
    WeightPlan,
)
from sia_flow.lineage.results import ArmResult, BestProgram, Cell
from sia_flow.track.environment import quiet_environment
from sia_flow.track.mlflow import MlflowTracker, default_artifacts, default_uri
from sia_flow.track.server import PrefectServer
from sia_flow.track.views import ArmView, FinalView, GenerationView

FLOW = """
from prefect import flow
@flow
def hello() -> int:
    return 7
print(hello())
"""


@pytest.fixture(autouse=True, scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        for name, value in quiet_environment(state, {}).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database after MLflow's migrations, which take seconds."""
    root = tmp_path_factory.mktemp("template")
    MlflowTracker(default_uri(root, {}), default_artifacts(root), "template")
    with sqlite3.connect(root / "mlruns" / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (root / "mlruns" / "mlflow.db").read_bytes()


@pytest.fixture(scope="session")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """State folder, environment and outcome of a private server's first start, with a flow run on it."""
    folder = tmp_path_factory.mktemp("prefect")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environ |= {"HOME": str(folder)}
    with PrefectServer(folder / "state", environ=environ) as server:
        command, variables, pid = [sys.executable, "-c", FLOW], environ | server.variables(), server.pid
        output = subprocess.check_output(command, env=variables, text=True, cwd=folder)
    return SimpleNamespace(state=folder / "state", environ=environ, output=output.strip(), pid=pid)


def score(split: str, mean: float) -> Score:
    return Score(split=split, n=8, mean=mean, se=0.01, best=mean + 0.1, valid=0.75, metrics={"poisson_norm": 0.5})


def turn(text: str) -> Turn:
    return Turn(
        messages=({"role": "user", "content": "Write denoise(counts, seed)."},),
        text=text,
        prompt_ids=(1, 2, 3),
        completion_ids=(4, 5),
        logprobs=(-0.5, -0.25),
        temperature=1.0,
        finish="stop",
        policy="base",
    )


def trajectory(sample: int, answer: str | None = "def denoise(counts, seed):\n    return counts\n") -> Trajectory:
    call = ToolCall(name="score_visible", arguments={"program": "p"}, result={"reward": 0.1}, after_turn=1)
    return Trajectory(
        instance="train-0",
        sample=sample,
        seed=sample,
        turns=(turn("first"), turn("second")),
        tools=(call,),
        answer=answer,
    )


def verdict(reward: float, reason: str = "ok") -> Verdict:
    return Verdict(reward=reward, valid=reason == "ok", reason=reason, metrics={"mse_norm": reward})


@pytest.fixture
def arm() -> ArmView:
    spec = {"spec": {"task": {"name": "denoise", "mode": "guarded"}, "seeds": [0, 1], "budget": {"usd": None}}}
    return ArmView("denoise", "run-1", "SIA-W+H", 0, spec, ("harness", "weights"))


@pytest.fixture
def generation() -> Callable[..., Generation]:
    def make(index: int = 0, mean: float = 0.2, **changes: object) -> Generation:
        plan = WeightPlan(algorithm="grpo", iterations=3, learning_rate=1e-3, kl=0.02)
        edit = Edit(kind="constants", name="KNN 5 -> 7", summary="more neighbours", files={})
        steps = tuple({"reward_mean": 0.1 * i, "kl_base": 0.5 * i} for i in range(3))
        fields = {
            "id": f"{index:064x}",
            "index": index,
            "parent": f"{index - 1:064x}" if index else None,
            "seed": 0,
            "scaffold": "a" * 64,
            "base": "b" * 64,
            "adapter": "c" * 64 if index else None,
            "data": "d" * 64,
            "verifier": "e" * 64,
            "decision": Decision(lever="weights", reason="stalled", forecast=0.02, edits=(edit,), weights=plan)
            if index
            else None,
            "train": score("train", mean),
            "select": score("select", mean + 0.01),
            "guards": {"poisson": 0.02},
            "accepted": True,
            "verdict": "gain 0.02 > 0.01",
            "training": steps if index else (),
            "spend": Spend(rollouts=128),
            "isolation": Isolation(level=2, backend="bubblewrap"),
            "trajectories": "f" * 64,
        }
        return Generation.model_validate(fields | changes)

    return make


@pytest.fixture
def view(arm: ArmView, generation: Callable[..., Generation], tmp_path: Path) -> Callable[..., GenerationView]:
    def make(index: int = 0, **changes: object) -> GenerationView:
        adapter, plot = tmp_path / "adapter", tmp_path / "score.png"
        adapter.mkdir(exist_ok=True)
        (adapter / "adapter_config.json").write_text("{}")
        plot.write_bytes(b"\x89PNG")
        verdicts = (verdict(0.3), verdict(0.1), verdict(0.0, "syntax"), verdict(0.2), verdict(0.0, "guard"))
        return GenerationView(
            arm=arm,
            generation=generation(index, **changes),
            scaffold_files={"scaffold.py": "KNN: int = 5\n"},
            diff="-KNN: int = 5\n+KNN: int = 7\n" if index else "",
            report="# Generation\n",
            adapter_dir=adapter if index else None,
            trajectories=tuple(trajectory(i) for i in range(5)),
            verdicts=verdicts,
            plots={"score": plot},
        )

    return make


@pytest.fixture
def final(arm: ArmView) -> FinalView:
    sealed = score("sealed", 0.22)
    result = ArmResult(
        key="k" * 64,
        experiment="denoise",
        arm=arm.arm,
        seed=0,
        generations=("0" * 64, "1" * 64),
        incumbent="1" * 64,
        stopped="budget.generations",
        select=score("select", 0.23),
        sealed=sealed,
        guards={"poisson": 0.01},
        best=BestProgram(answer="9" * 64, train=0.3, select=score("select", 0.29), sealed=score("sealed", 0.28)),
        baselines={"magic": {"select": 0.08, "sealed": 0.081}},
        factorial=(Cell(scaffold="best", weights="base", score=score("select", 0.2)),),
        spend=Spend(rollouts=256),
    )
    return FinalView(arm=arm, result=result, report="# End\n")
