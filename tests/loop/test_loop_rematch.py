"""An indecisive gain buys more samples of both sides, until it decides or the spec's rounds are used up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sia_flow.lineage.records import Score, Spend
from sia_flow.lineage.store import Step, StepOutput, StepRecord, Store
from sia_flow.loop.arm import ArmState, Match
from sia_flow.loop.evaluate import Agent, Evaluation
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared
from sia_flow.loop.rematch import rematch
from sia_flow.spec.load import load_experiments
from sia_flow.verify.task import load_task
from tests.lineage.chain import make_chain

SPEC = "metadata: {name: small}\nspec: {task: {name: denoise, mode: sia}, accept: {k: 1.0, more: 3}}\n"
Rewards = Callable[[str, str], tuple[float, ...]]


def scored(rewards: tuple[float, ...]) -> Score:
    return Score(split="select", n=len(rewards), mean=0.0, se=0.0, best=0.0, valid=1.0, rewards={"a": rewards})


class Draws:
    """Runs steps by giving each rollout the rewards that a function of scaffold and stream says."""

    def __init__(self, rewards: Rewards) -> None:
        self.rewards = rewards
        self.asked: list[tuple[str, str]] = []

    def __call__(self, lab: Lab, prepared: Prepared) -> StepRecord:
        step = prepared.step
        result = None
        if step.name == "rollout":
            self.asked.append((str(step.inputs["scaffold"]), step.params["stream"]))
        else:
            result = scored(self.rewards(*self.asked[-1])).model_dump(mode="json")
        return StepRecord(
            key=step.key,
            step=step.name,
            version=1,
            params=step.params,
            inputs=step.inputs,
            seed=0,
            outputs={"trajectories": "t" + "".join(self.asked[-1])},
            result=result,
            spend=Spend(rollouts=2),
        )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    for name in ("tasks", "flows"):
        (tmp_path / name).symlink_to(Path(__file__).parents[2] / name)
    np.savez(tmp_path / "cells.npz", counts=np.random.default_rng(0).poisson(2.0, (90, 30)))
    load_task(tmp_path, "denoise").prepare(str(tmp_path / "cells.npz"), tmp_path / "data/denoise/pbmc")
    (tmp_path / "small.yaml").write_text(SPEC)
    (experiment,) = load_experiments(tmp_path / "small.yaml")
    with Lab(experiment, tmp_path, Store(tmp_path / "store")) as opened:
        opened.base_digest = "b"
        yield opened


@pytest.fixture
def state(lab: Lab, tmp_path: Path) -> ArmState:
    held = next(make_chain(tmp_path / "chain").generations())
    found = ArmState(lab.spec.arms[0], 0)
    found.incumbent = held.model_copy(update={"scaffold": "old", "select": scored((0.1, 0.3))})
    return found


def fought(lab: Lab, state: ArmState, first: tuple[float, ...], rewards: Rewards) -> tuple[Draws, Match | None]:
    draws = Draws(rewards)
    record = draws(lab, Prepared("rollout", "", Step("rollout", 1, {"stream": ""}, {"scaffold": "new"}, 0), StepOutput))
    draws.asked.clear()
    return draws, rematch(lab, draws, state, Agent("new", None), Evaluation(record, record, scored(first)))


def test_a_gain_that_decides_at_once_buys_nothing(lab: Lab, state: ArmState) -> None:
    draws, match = fought(lab, state, (0.8, 0.9), lambda *_: ())
    assert draws.asked == []
    assert match is not None
    assert (match.new.rewards["a"], match.spend, match.steps) == ((0.8, 0.9), Spend(), {})
    assert fought(lab, state, (0.0, 0.1), lambda *_: ())[0].asked == []


def test_it_buys_until_it_decides_with_the_same_streams_on_both_sides(lab: Lab, state: ArmState) -> None:
    def rewards(scaffold: str, stream: str) -> tuple[float, ...]:
        spread = {"more 1": (0.1, 0.5), "more 2": (0.9, 0.9)} if scaffold == "new" else {}
        return spread.get(stream, (0.1, 0.3))

    draws, match = fought(lab, state, (0.1, 0.5), rewards)
    assert draws.asked == [("new", "more 1"), ("old", "more 1"), ("new", "more 2"), ("old", "more 2")]
    assert match is not None
    assert match.new.rewards["a"] == (0.1, 0.5, 0.1, 0.5, 0.9, 0.9)
    assert match.old.n == 6
    assert match.spend.rollouts == 16
    assert len(match.steps) == 8


def test_it_gives_up_after_the_rounds_of_the_spec(lab: Lab, state: ArmState) -> None:
    wide = {"new": (-0.8, 1.4), "old": (-0.9, 1.3)}
    draws, _ = fought(lab, state, wide["new"], lambda scaffold, _: wide[scaffold])
    assert len(draws.asked) == 6
    state.incumbent = None
    assert fought(lab, state, (0.1, 0.5), lambda *_: ())[1] is None
