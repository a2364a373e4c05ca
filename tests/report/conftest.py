"""Records of small runs, by a few figures."""

from collections.abc import Callable

import pytest

from sia_flow.lineage.records import Decision, Generation, Isolation, Score, Spend, WeightPlan
from sia_flow.lineage.results import ArmResult, BestProgram, Cell


def make_score(split: str, mean: float, se: float = 0.01, spread: float = 0.05) -> Score:
    rewards = {f"{split}-{i}": tuple(mean + spread * (-1) ** j for j in range(16)) for i in range(4)}
    return Score(split=split, n=64, mean=mean, se=se, best=mean + 0.1, valid=0.9, rewards=rewards)


@pytest.fixture
def score() -> Callable[..., Score]:
    return make_score


@pytest.fixture
def generation() -> Callable[..., Generation]:
    def make(index: int, mean: float, *, weights: bool = False, **changes: object) -> Generation:
        plan = WeightPlan(algorithm="grpo", iterations=8, learning_rate=1e-3, kl=0.02) if weights else None
        lever = "weights" if weights else "harness"
        steps = tuple(
            {"reward_mean": mean + 0.005 * i, "kl_base": 0.3 * i, "entropy": 0.9 - 0.02 * i} for i in range(8)
        )
        fields = {
            "id": f"{index:064x}",
            "index": index,
            "parent": f"{index - 1:064x}" if index else None,
            "seed": 0,
            "scaffold": "a" * 64,
            "base": "b" * 64,
            "adapter": "c" * 64 if weights else None,
            "data": "d" * 64,
            "verifier": "e" * 64,
            "decision": Decision(lever=lever, reason="stalled", forecast=0.02, weights=plan) if index else None,
            "train": make_score("train", mean),
            "select": make_score("select", mean + 0.01),
            "guards": {"poisson": 0.02},
            "accepted": True,
            "verdict": "gain 0.0200 > 1.0 x 0.0100",
            "training": steps if weights else (),
            "spend": Spend(rollouts=256, prompt_tokens=1024),
            "isolation": Isolation(level=2, backend="bubblewrap"),
            "trajectories": "f" * 64,
        }
        return Generation.model_validate(fields | changes)

    return make


@pytest.fixture
def result() -> Callable[..., ArmResult]:
    def make(arm: str, seed: int, sealed: float, **changes: object) -> ArmResult:
        best = BestProgram(
            answer="9" * 64, train=0.3, select=make_score("select", 0.29), sealed=make_score("sealed", 0.28)
        )
        fields = {
            "key": f"{arm}{seed}",
            "experiment": "denoise",
            "arm": arm,
            "seed": seed,
            "generations": ("0" * 64, "1" * 64),
            "incumbent": "1" * 64,
            "stopped": "budget.generations",
            "select": make_score("select", sealed + 0.01),
            "sealed": make_score("sealed", sealed),
            "guards": {"poisson": 0.01},
            "best": best,
            "baselines": {"magic": {"select": 0.08, "sealed": 0.081}},
            "factorial": (Cell(scaffold="first", weights="base", score=make_score("select", 0.05)),),
            "spend": Spend(rollouts=1500),
        }
        return ArmResult.model_validate(fields | changes)

    return make
