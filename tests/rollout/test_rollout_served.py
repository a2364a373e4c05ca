"""Rollouts on a server: many at once, each at its own pace, and the same trajectories as one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.loop.lab import Lab
from sia_flow.policy.endpoint import Endpoint, Patience
from sia_flow.policy.published import PublishedPolicy
from sia_flow.policy.served import ServedPolicy
from sia_flow.rollout.engine import plan_work
from tests.policy.server import serving

TALK = """
def solve(job):
    said = [{"role": "user", "content": "Write denoise(counts, seed)."}]
    for turn in range(3):
        text = job.generate(said, max_tokens=6 if job.seed % 2 else 24)[0]
        score = job.tools.score_visible(program=text)
        said += [{"role": "assistant", "content": text}, {"role": "user", "content": score["reason"]}]
    return text
"""


@pytest.mark.parametrize("failures", [[], [503, 0, 429, 500]])
def test_trajectories_do_not_depend_on_how_many_are_in_flight(lab: Lab, tmp_path: Path, failures: list[int]) -> None:
    work = plan_work(lab.instances("train", 2), 6, "served")
    patience = Patience(attempts=5, first=0.01, longest=0.02)
    found = []
    with serving(lab.base_dir) as server:
        for concurrency in (1, 16):
            endpoint = Endpoint(server.url, server.model, concurrency, patience=patience)
            served = ServedPolicy.connect(endpoint, lab.base_dir, tmp_path, lambda: lab.policy(None))  # type: ignore[arg-type, return-value]
            server.failures, server.busiest = list(failures), 0
            found.append(lab.engine("train").run({"scaffold.py": TALK}, served, work))
            assert server.busiest <= concurrency
            assert server.failures == []
        assert server.busiest > 2
    assert found[0] == found[1]
    assert [len(t.turns) for t in found[0]] == [3] * 12
    assert [len(t.tools) for t in found[0]] == [3] * 12
    assert {t.status for t in found[0]} == {"OK"}
    assert not any(turn.rescored for t in found[0] for turn in t.turns)


def test_an_adapter_in_training_is_published_once_a_batch(lab: Lab, tmp_path: Path) -> None:
    trained = lab.trainable_policy(None, 3)
    work = plan_work(lab.instances("train", 1), 4, "published")
    with serving(lab.base_dir) as server:
        endpoint = Endpoint(server.url, server.model, 8)
        served = ServedPolicy.connect(endpoint, lab.base_dir, tmp_path, lambda: trained)
        published = PublishedPolicy(served, trained)
        first = lab.engine("train").run({"scaffold.py": TALK}, published, work)
        again = lab.engine("train").run({"scaffold.py": TALK}, published, work)
    assert {turn.policy for t in first for turn in t.turns} == {trained.version}
    assert first == again
    loads = [body["lora_name"] for path, body in server.seen if path == "/v1/load_lora_adapter"]
    assert len(loads) == 1
    assert {body["model"] for path, body in server.seen if path == "/v1/completions"} == {loads[0]}
