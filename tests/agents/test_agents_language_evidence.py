"""The evidence for a model: every rollout in a cluster, examples for as long as there is room, shares told."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.agents.evidence import statistics_of
from sia_flow.agents.language.brief import BYTES_PER_TOKEN, Brief, brief_of
from sia_flow.agents.language.clusters import clusters_of, hardest, signature
from sia_flow.agents.language.past import flipped
from sia_flow.lineage.records import Trajectory, Turn, Verdict
from tests.agents.talks import PaperBench
from tests.agents.world import Arm


def turn(text: str) -> Turn:
    messages = ({"role": "user", "content": "Write it."},)
    empty = {"prompt_ids": (), "completion_ids": (), "logprobs": (), "temperature": 1.0}
    return Turn(messages=messages, text=text, finish="stop", policy="p", **empty)


def pair(number: int, reward: float, feedback: str = "", reason: str = "ok") -> tuple[Trajectory, Verdict]:
    text = f"answer {number} " * 20
    rollout = Trajectory(instance=f"i{number % 3}", sample=number, seed=number, turns=(turn(text),), answer=text)
    return rollout, Verdict(reward=reward, valid=reason == "ok", reason=reason, feedback=feedback)


PAIRS = [
    *(pair(n, n / 10) for n in range(9)),
    *(pair(n, 0.0, f"KeyError: 'gene{n}' at 0x{n:x}", "exception") for n in range(9, 15)),
    *(pair(n, 0.0, f"line {n}: invalid syntax", "syntax") for n in range(15, 18)),
]


def brief(budget: int, arm: Arm | None = None) -> Brief:
    arm = arm or Arm()
    evidence = arm.evidence(trajectories=[t for t, _ in PAIRS], verdicts=[v for _, v in PAIRS])
    return brief_of(evidence, statistics_of(evidence.trajectories, evidence.verdicts), PaperBench(arm), budget)


def test_failures_of_one_kind_are_one_cluster_whatever_varies_in_them() -> None:
    names = {cluster.name: cluster.count for cluster in clusters_of(PAIRS)}
    assert names == {
        "valid, best third": 3,
        "failed: exception: KeyError: _ at _": 6,
        "failed: syntax: line _: invalid syntax": 3,
        "valid, middle third": 3,
        "valid, lowest third": 3,
    }
    assert signature(PAIRS[9][1]) == signature(PAIRS[10][1]) != signature(PAIRS[15][1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["ok", "syntax", "guard"])), max_size=40))
def test_every_rollout_is_in_one_cluster(found: list[tuple[float, str]]) -> None:
    pairs = [pair(n, reward, reason=reason) for n, (reward, reason) in enumerate(found)]
    clusters = clusters_of(pairs)
    assert sum(cluster.count for cluster in clusters) == len(pairs)
    assert all(1 <= len(c.examples) <= 3 and c.low <= c.high for c in clusters)


def test_a_budget_is_kept_and_more_room_shows_more() -> None:
    sizes = [brief(budget) for budget in (2500, 3000, 4500, 20_000)]
    for found, budget in zip(sizes, (2500, 3000, 4500, 20_000), strict=True):
        assert len(found.text.encode()) <= budget * BYTES_PER_TOKEN + 600
    assert sizes[0].examples < sizes[2].examples <= sizes[3].examples
    shares = [found.quoted for found in sizes]
    assert shares == sorted(shares)
    assert 0 < sizes[3].quoted < 1
    assert sizes[3].covered == 1.0
    assert f"{sizes[3].quoted:.1%} of the traces' bytes are quoted here" in sizes[3].text
    assert brief(4500) == sizes[2]


def test_examples_cover_every_kind_before_a_second_of_one() -> None:
    found = brief(20_000)
    for cluster in clusters_of(PAIRS):
        assert f"### {cluster.name}: {cluster.count} rollouts" in found.text
    assert found.features()["evidence_covered"] == 1.0


def test_what_was_tried_and_refused_is_told() -> None:
    arm = Arm()
    arm.pull("harness", -0.02)
    text = brief(20_000, arm).text
    assert "## Tried from this incumbent and refused" in text
    assert "generation 1, harness-constants: as it was: gain -0.0200" in text
    assert "generation 0: first: select" in text
    assert "Flipped since" not in text
    arm.pull("harness", 0.05)
    assert "## Flipped since generation 0" in brief(20_000, arm).text


def test_hardest_and_flipped_instances_are_named() -> None:
    assert hardest(PAIRS, 1)[0].startswith("instance i0: mean")
    later = [(t, v.model_copy(update={"valid": True, "reason": "ok", "reward": 0.3})) for t, v in PAIRS]
    lines = flipped(PAIRS, later)
    assert lines[0] == "18 rollouts compare: 9 became valid, 0 invalid, 17 changed reward"
    assert lines[1].endswith("0.0000 (exception) -> 0.3000 (ok)")
    assert flipped(PAIRS, []) == ["0 rollouts compare: 0 became valid, 0 invalid, 0 changed reward"]
