"""Sampling from a server on loopback, real tokens of a real tiny model: exact where it tells, marked where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sia_flow.errors import InfrastructureError, SpecError, TrainingError
from sia_flow.policy.endpoint import Endpoint, Patience
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.published import PublishedPolicy
from sia_flow.policy.rows import TokenRows
from sia_flow.policy.served import ServedPolicy
from sia_flow.policy.shelf import served_name
from sia_flow.policy.wire import chat_body, choices
from sia_flow.protocols import Called
from tests.policy.harmony import LOOK
from tests.policy.server import ModelServer, serving
from tests.policy.world import moved, request_for

QUICK = Patience(attempts=3, first=0.01, longest=0.02, connect=2.0, answer=60.0)


@pytest.fixture
def server(base: Path) -> Iterator[ModelServer]:
    with serving(base) as found:
        yield found


def endpoint(server: ModelServer, **fields: object) -> Endpoint:
    return replace(Endpoint(server.url, server.model, patience=QUICK), **fields)  # type: ignore[arg-type]


def connect(server: ModelServer, base: Path, shelf: Path, **fields: object) -> ServedPolicy:
    return ServedPolicy.connect(endpoint(server, **fields), base, shelf, lambda: LocalPolicy.load(base))


def gap(policy: LocalPolicy, completions: list, temperature: float = 1.0) -> float:
    """Largest difference between what completions say and what the policy computes for them."""
    table = policy.logprobs(TokenRows.of(completions), temperature=temperature).tolist()
    return max(
        abs(a - b) for line, c in zip(table, completions, strict=True) for a, b in zip(line, c.logprobs, strict=False)
    )


def test_a_server_that_tells_tokens_is_exact(server, base, policy, tmp_path):
    served = connect(server, base, tmp_path)
    (found,) = served.sample([request_for(n=5, seed=3)])
    assert served.version == policy.version
    assert len(found) == 5
    assert not any(completion.rescored for completion in found)
    assert all(len(c.logprobs) == len(c.completion_ids) for c in found)
    assert gap(policy, found) < 1e-5
    local = policy.sample([request_for(n=1)])[0][0]
    assert found[0].prompt_ids == local.prompt_ids
    assert all(c.finish == ("stop" if c.completion_ids[-1] in policy._stops else "length") for c in found)


def test_equal_requests_give_equal_completions_in_any_company(server, base, tmp_path):
    served = connect(server, base, tmp_path)
    requests = [request_for(f"Write denoise(counts, seed).\nFailed: {i}", n=2, seed=i) for i in range(6)]
    together = served.sample(requests)
    assert [served.sample([request])[0] for request in requests] == together
    assert len({completion.text for completions in together for completion in completions}) > 3


def test_no_more_requests_at_once_than_the_bound(server, base, tmp_path):
    served = connect(server, base, tmp_path, concurrency=2)
    assert len(served.sample([request_for(seed=i) for i in range(12)])) == 12
    assert server.busiest == 2


def test_text_alone_is_scored_again_and_marked(base, policy, tmp_path):
    with serving(base, tokens=False) as server:
        served = connect(server, base, tmp_path)
        (found,) = served.sample([request_for(n=3, seed=1, temperature=0.7)])
    assert all(completion.rescored for completion in found)
    assert gap(policy, found, 0.7) < 1e-5
    assert all(c.completion_ids[-1] in policy._stops for c in found if c.finish == "stop")
    # One completion an answer: three requests of their own seeds, after the one that found out how to ask.
    chats = [body for path, body in server.seen if path == "/v1/chat/completions"]
    assert len({body["seed"] for body in chats[1:]}) == len(chats) - 1 == 3


def test_log_probabilities_of_another_temperature_are_not_believed(base, policy, tmp_path):
    with serving(base, scaled=False) as server:
        served = connect(server, base, tmp_path)
        (warm,) = served.sample([request_for(n=3, temperature=0.5)])
        (plain,) = served.sample([request_for(n=3)])
    assert [completion.rescored for completion in (*warm, *plain)] == [True] * 3 + [False] * 3
    assert gap(policy, warm, 0.5) < 1e-5


def test_log_probabilities_at_the_temperature_are_believed(server, base, policy, tmp_path):
    (found,) = connect(server, base, tmp_path).sample([request_for(n=3, temperature=0.5)])
    assert not any(completion.rescored for completion in found)
    assert gap(policy, found, 0.5) < 1e-5


def test_greedy_completions_have_probability_one(server, base, policy, tmp_path):
    (found,) = connect(server, base, tmp_path).sample([request_for(n=2, temperature=0.0)])
    (local,) = policy.sample([request_for(temperature=0.0)])
    assert found[0].completion_ids == local[0].completion_ids
    assert set(found[0].logprobs) == {0.0}


@pytest.mark.parametrize("failure", [429, 500, 503, 0])
def test_a_fault_that_passes_is_waited_for(server, base, tmp_path, failure):
    served = connect(server, base, tmp_path)
    clean = served.sample([request_for(seed=4)])
    server.failures = [failure, failure]
    assert served.sample([request_for(seed=4)]) == clean
    assert server.failures == []


def test_a_fault_that_stays_is_infrastructure(server, base, tmp_path):
    server.failures = [503] * 100
    with pytest.raises(InfrastructureError, match=r"no answer in 3 attempts \(503 on purpose\)"):
        connect(server, base, tmp_path).sample([request_for()])
    assert len(server.seen) == 3


def test_nobody_at_the_address_is_infrastructure_that_names_it(base, tmp_path):
    lost = Endpoint("http://127.0.0.1:9/v1", "tiny", patience=QUICK)
    served = ServedPolicy.connect(lost, base, tmp_path, lambda: LocalPolicy.load(base))
    with pytest.raises(InfrastructureError, match=r"127\.0\.0\.1:9/v1.*policy\.base_url"):
        served.sample([request_for()])


def test_a_refusal_is_told_at_once_with_what_to_change(server, base, tmp_path):
    with pytest.raises(SpecError, match=r"'other'.*does not exist.*it has tiny: set policy\.model"):
        connect(server, base, tmp_path, model="other").sample([request_for()])
    wrong = replace(endpoint(server), base_url=server.url.removesuffix("/v1"))
    served = ServedPolicy.connect(wrong, base, tmp_path, lambda: LocalPolicy.load(base))
    with pytest.raises(SpecError, match="ends with the server's /v1"):
        served.sample([request_for()])


def test_a_key_goes_with_every_request_or_is_asked_for(base, tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_KEY", "secret")
    with serving(base, key="secret") as server:
        assert connect(server, base, tmp_path, api_key_env="TINY_KEY").sample([request_for()])
        with pytest.raises(SpecError, match=r"401 Unauthorized.*policy\.api_key_env"):
            connect(server, base, tmp_path).sample([request_for()])
        with pytest.raises(SpecError, match="LOST_KEY is not set"):
            connect(server, base, tmp_path, api_key_env="LOST_KEY")


def test_an_adapter_is_loaded_under_its_digest(server, base, tmp_path):
    adapted = moved(base)
    adapted.save_adapter(tmp_path / "adapter")
    served = connect(server, base, tmp_path / "shelf")
    served.use_folder(tmp_path / "adapter")
    (found,) = served.sample([request_for(n=3)])
    assert served.version == adapted.version
    assert served_name(adapted.adapter_digest()) in server.loaded
    assert gap(adapted, found) < 1e-5 < gap(LocalPolicy.load(base), found)


def test_a_server_that_lost_the_adapter_gets_it_again(server, base, tmp_path):
    moved(base).save_adapter(tmp_path / "adapter")
    served = connect(server, base, tmp_path / "shelf")
    served.use_folder(tmp_path / "adapter")
    before = served.sample([request_for(seed=2)])
    server.loaded = {"tiny": server.loaded["tiny"]}
    assert served.sample([request_for(seed=2)]) == before


def test_a_server_without_adapters_says_how_to_start_one(base, tmp_path):
    moved(base).save_adapter(tmp_path / "adapter")
    with serving(base, loras=False) as server, pytest.raises(SpecError, match="--enable-lora"):
        connect(server, base, tmp_path / "shelf").use_folder(tmp_path / "adapter")


def test_an_answer_in_the_name_of_the_base_is_not_taken_for_the_adapter(base, tmp_path):
    moved(base).save_adapter(tmp_path / "adapter")
    with serving(base, answers_as="tiny") as server:
        served = connect(server, base, tmp_path / "shelf")
        assert served.sample([request_for()])
        served.use_folder(tmp_path / "adapter")
        with pytest.raises(InfrastructureError, match=r"asked for sia-\w{16} and answered as tiny"):
            served.sample([request_for()])


def change(policy: LocalPolicy, by: float) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(by)


def test_a_training_policy_is_published_each_time_it_changes(server, base, tmp_path):
    trained = moved(base)
    published = PublishedPolicy(connect(server, base, tmp_path / "shelf"), trained)
    for _ in range(4):
        (found,) = published.sample([request_for(n=2)])
        assert published.version == trained.version
        assert gap(trained, found) < 1e-5
        change(trained, 0.02)
    assert len([path for path, _ in server.seen if path == "/v1/load_lora_adapter"]) == 4
    # The newest two stay, on the server and in the folder.
    assert len(server.loaded) == 3
    assert {path.name for path in (tmp_path / "shelf").iterdir()} == set(server.loaded) - {"tiny"}


def test_a_server_that_leaves_the_adapter_out_is_found_out(base, tmp_path):
    trained = moved(base)
    change(trained, 0.5)
    with serving(base, ignores_adapters=True) as server:
        published = PublishedPolicy(connect(server, base, tmp_path / "shelf"), trained)
        with pytest.raises(TrainingError, match="nats a token away"):
            published.sample([request_for(n=2)])


def test_calls_that_a_server_has_read_are_taken_over():
    call = {"id": "x", "type": "function", "function": {"name": "look", "arguments": '{"row": 3}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, {"function": {"name": 3}}, 7]}
    (found,) = choices({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert (found.text, found.calls, found.finish) == ("", (Called("look", '{"row": 3}'),), "stop")
    asked = chat_body("tiny", replace(request_for(), tools=(LOOK,)), 1, 0)
    assert asked["tools"] == [LOOK]
    assert "tools" not in chat_body("tiny", request_for(), 1, 0)
