"""A whole experiment whose policy is on a server: the same spec, the same loop, adapters published as they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.lineage.jsonl import load_lines
from sia_flow.lineage.records import Trajectory
from sia_flow.lineage.store import Store
from sia_flow.spec.load import experiment_digest, load_experiments
from tests.flows.world import generations, make_project, run_here, sia_flow
from tests.policy.server import ModelServer, serving

WEIGHTS = "arms=[{name: W, levers: [weights]}]"


def on(server: ModelServer) -> tuple[str, ...]:
    return ("policy.type=openai", f"policy.base_url={server.url}", "policy.model=tiny")


def turns(root: Path, generation) -> list:
    data = Store(root / ".sia-flow/store").objects.get_bytes(generation.trajectories)
    return [turn for trajectory in load_lines(data, Trajectory) for turn in trajectory.turns]


SMALL = (
    "rollouts={instances: 1, samples: 2}",
    "verify={select: {instances: 1, samples: 2}, sealed: {instances: 1, samples: 1}}",
    "training.instances=1",
)


@pytest.mark.slow
def test_apply_on_a_server_trains_and_a_second_one_asks_nothing(tmp_path: Path) -> None:
    spec = make_project(tmp_path)
    with serving(tmp_path / "models/tiny-gpt-oss") as server:
        settings = (WEIGHTS, *SMALL, *on(server))
        options = [part for setting in settings for part in ("--set", setting)]
        sia_flow("apply", "specs/small.yaml", "--engine", "local", *options, cwd=tmp_path)
        models = {body["model"] for path, body in server.seen if path == "/v1/completions"}
    # The base, the adapter as it was drawn, and as it was after each of two iterations that had a gradient.
    assert 2 <= len(models) <= 4
    # Nobody is at another address: all that is read is stored.
    elsewhere = (*SMALL, "policy.model=tiny", "policy.base_url=http://127.0.0.1:9/v1")
    (result,) = run_here(spec, WEIGHTS, *elsewhere)
    first, second = generations(tmp_path, result)
    assert second.adapter is not None
    found = [*turns(tmp_path, first), *turns(tmp_path, second)]
    assert len({turn.policy for turn in found}) == 2
    assert all(len(turn.logprobs) == len(turn.completion_ids) and not turn.rescored for turn in found)


@pytest.mark.slow
def test_an_experiment_on_a_server_that_gives_text_alone_says_so(tmp_path: Path) -> None:
    spec = make_project(tmp_path)
    with serving(tmp_path / "models/tiny-gpt-oss", tokens=False) as server:
        (result,) = run_here(spec, *SMALL, "search.trials=1", *on(server))
    found = [turn for generation in generations(tmp_path, result) for turn in turns(tmp_path, generation)]
    assert found
    assert all(turn.rescored and len(turn.logprobs) == len(turn.completion_ids) for turn in found)


def test_where_the_server_stands_is_no_part_of_the_experiment(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("metadata: {name: a}\nspec:\n  task: {name: denoise}\n  policy: {base_url: http://one/v1}\n")

    def digest(*overrides: str) -> str:
        return experiment_digest(load_experiments(spec, overrides)[0])

    moved = ("policy.base_url=http://two/v1", "policy.concurrency=3", "policy.adapters=/mnt", "policy.api_key_env=K")
    assert digest() == digest(*moved) != digest("policy.model=other")
    local = tmp_path / "local.yaml"
    local.write_text("metadata: {name: a}\nspec:\n  task: {name: denoise}\n")
    assert experiment_digest(load_experiments(local, [])[0]) != digest()
