"""A policy on a server: what may be said of it, what it means alone, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sia_flow.lineage.records import Turn
from sia_flow.spec.load import load_experiments, resolved_json
from sia_flow.spec.problems import InvalidSpecError

Write = Callable[..., Path]


def test_a_field_of_a_server_alone_means_a_server(write: Write) -> None:
    for setting in ("policy.model=m", "policy.base_url=http://a:1/v1", "policy.adapters=/mnt", "policy.concurrency=2"):
        assert load_experiments(write(), [setting])[0].spec.policy.type == "openai"
    assert load_experiments(write(), ["policy.base=b"])[0].spec.policy.type == "local"


def test_a_local_policy_is_resolved_as_before_there_were_servers(write: Write) -> None:
    resolved = resolved_json(load_experiments(write(), ["policy.base=b"])[0])["spec"]["policy"]
    assert sorted(resolved) == ["base", "lora", "max_tokens", "type"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["policy.type=local", "policy.base_url=http://a/v1"], r"policy\.base_url.*set type: openai, or drop it"),
        (["policy.base_url=localhost:8000"], "no address of a server"),
        (["training.engine=fsdp", "arms=[SIA-W]"], r"training\.engine.*set policy\.type: openai"),
        (
            ["training.engine=fsdp", "training.algorithm=ppo", "policy.model=m", "arms=[SIA-W]"],
            r"fsdp has no critic for ppo",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(write: Write, settings: list[str], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        load_experiments(write(), settings)


def test_an_exact_turn_is_written_as_before_there_were_servers() -> None:
    fields = {"messages": (), "text": "", "prompt_ids": (1,), "completion_ids": (2,), "logprobs": (-1.0,)}
    exact = Turn(**fields, temperature=1.0, finish="stop", policy="p")
    assert "rescored" not in exact.model_dump_json()
    assert Turn.model_validate_json(exact.model_copy(update={"rescored": True}).model_dump_json()).rescored
