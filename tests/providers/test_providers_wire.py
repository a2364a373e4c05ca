"""Both SDKs against a server that speaks their wire formats: answers, features, faults."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from sia_flow.dialogue import Ask, Message, Opaque, Text, Tool, ToolResult, ToolUse, Usage
from sia_flow.errors import InfrastructureError
from sia_flow.providers.faults import (
    MissingKeyError,
    RefusedRequestError,
    UnansweredError,
    UnknownModelError,
    WrongKeyError,
)
from sia_flow.providers.metering import call_bytes
from sia_flow.providers.provider import Provider, open_provider
from sia_flow.providers.settings import ModelSettings
from tests.providers.wire import KEY, Call, Fault, Say, Wire

APIS = ("anthropic", "openai")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
TOOL = Tool(name="look", description="Look.", parameters={"type": "object", "properties": {}})
HELLO = Message(role="user", blocks=(Text(text="hello"),))
ASK = Ask(system=("static", "task"), messages=(HELLO,), tools=(TOOL,), answer=SCHEMA)


def provider(api: str, wire: Wire, **settings: Any) -> Provider:
    url = wire.url + ("/v1" if api == "openai" else "")
    settings = {"retries": 2, "timeout": 20.0, **settings}
    made = ModelSettings(type=api, model="m", api_key_env="A_KEY", base_url=url, **settings)  # type: ignore[arg-type]
    return open_provider(made, {"A_KEY": KEY})


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", APIS)
def test_words_tools_and_usage_come_over(api: str, *, stream: bool, serve) -> None:
    wire = serve([Say("I look. " * 30, (Call("look", {"x": [1, 2]}), Call("look", {})), usage=(70, 9, 30, 5))])
    reply = provider(api, wire, stream=stream).complete(ASK)
    assert (reply.stop, reply.text) == ("tools", "I look. " * 30)
    assert [(call.name, call.arguments) for call in reply.calls] == [("look", {"x": [1, 2]}), ("look", {})]
    written = {"cache_write": 5} if api == "anthropic" else {}
    assert reply.usage == Usage(input=70 if written else 75, output=9, cache_read=30, **written)
    assert bool(wire.requests[0].body.get("stream")) is stream


@pytest.mark.parametrize("stream", [True, False])
def test_thinking_goes_back_as_it_came(*, stream: bool, serve) -> None:
    wire = serve([Say("", (Call("look", {}),), thinking="deep " * 20), Say("{}")])
    claude = provider("anthropic", wire, stream=stream)
    first = claude.complete(ASK)
    assert isinstance(first.blocks[0], Opaque)
    results = Message(role="user", blocks=(ToolResult(id=first.calls[0].id, text="seen", failed=True),))
    history = (HELLO, Message(role="assistant", blocks=first.blocks), results)
    claude.complete(ASK.model_copy(update={"messages": history}))
    _, said, shown = wire.requests[1].body["messages"]
    assert said["content"][0] == {"type": "thinking", "thinking": "deep " * 20, "signature": "c2lnbmVk"}
    assert said["content"][1]["type"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": "toolu_0", "content": "seen", "is_error": True}
    assert shown["content"] == [result]


def test_openai_histories_have_a_message_for_each_result(serve) -> None:
    wire = serve([Say("{}")])
    use = ToolUse(id="c", name="look", arguments={"x": 1})
    said = Message(role="assistant", blocks=(Text(text="so"), use))
    results = Message(role="user", blocks=(ToolResult(id="c", text="seen"), Text(text="go on")))
    provider("openai", wire).complete(ASK.model_copy(update={"messages": (HELLO, said, results)}))
    system, _, assistant, tool, user = wire.requests[0].body["messages"]
    assert system == {"role": "system", "content": "static\n\ntask"}
    assert assistant["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"x": 1}'}
    assert (tool["role"], tool["tool_call_id"], tool["content"]) == ("tool", "c", "seen")
    assert user == {"role": "user", "content": "go on"}


def test_what_is_not_set_is_not_sent(serve) -> None:
    wire = serve([Say("{}")])
    provider("anthropic", wire).complete(ASK)
    provider("openai", wire, stream=False).complete(ASK)
    claude, other = (set(request.body) for request in wire.requests)
    assert claude == {
        *("model", "max_tokens", "messages", "system", "tools", "stream", "output_config", "cache_control"),
    }
    assert other == {"model", "max_tokens", "messages", "tools", "response_format"}
    assert wire.requests[0].body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert wire.requests[1].body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_features_go_by_the_settings_alone(serve) -> None:
    wire = serve([Say("{}")])
    features = {"temperature": 0.3, "effort": "high", "output": "text", "max_tokens": 300, "extra": {"top_k": 5}}
    provider("anthropic", wire, **features, thinking="adaptive", cache=False).complete(ASK)
    provider("anthropic", wire, thinking=2048).complete(ASK)
    provider("openai", wire, **features).complete(ASK)
    claude, budget, other = (request.body for request in wire.requests)
    assert (claude["temperature"], claude["top_k"], claude["max_tokens"]) == (0.3, 5, 300)
    assert claude["output_config"] == {"effort": "high"}
    assert claude["thinking"] == {"type": "adaptive"}
    assert "cache_control" not in json.dumps(claude)
    assert budget["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert (other["temperature"], other["top_k"], other["reasoning_effort"]) == (0.3, 5, "high")
    assert "response_format" not in other


def test_the_static_parts_are_marked_for_the_cache(serve) -> None:
    wire = serve([Say("{}")])
    provider("anthropic", wire).complete(ASK)
    body = wire.requests[0].body
    assert ["cache_control" in block for block in body["system"]] == [False, True]
    assert body["cache_control"] == {"type": "ephemeral"}


def test_the_key_goes_as_a_header_and_nowhere_else(serve) -> None:
    wire = serve([Say("{}")])
    for api in APIS:
        provider(api, wire).complete(ASK)
    for request in wire.requests:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in request.text


FAULTS = [
    (Fault(401, f"bad key {KEY}"), WrongKeyError, r"the key in \$A_KEY is refused \(401\)", None, 1),
    (Fault(403, "sk-proj-abcdefghijkl"), WrongKeyError, "403", None, 1),
    (Fault(404), UnknownModelError, "no model 'm' at http://127.0.0.1", None, 1),
    (Fault(400, "temperature is not supported"), RefusedRequestError, "temperature is not supported", None, 1),
    (Fault(429), UnansweredError, r"did not answer in 3 tries \(429\)", False, 3),
    (Fault(500), UnansweredError, "500", False, 3),
    (Fault(529), UnansweredError, "529", False, 3),
    (Fault(cut_after=0), UnansweredError, "m: ", True, 1),
    (Fault(cut_after=3), UnansweredError, "the connection broke", True, 1),
    (Fault(garbage=True), UnansweredError, "cannot be read", True, 1),
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("fault", "kind", "words", "billed", "tries"), FAULTS)
def test_a_fault_says_what_to_do_and_whether_it_may_cost(
    api: str, fault: Fault, kind: type[Exception], words: str, *, billed: bool | None, tries: int, serve
) -> None:
    wire = serve([fault])
    with pytest.raises(kind, match=words) as caught:
        provider(api, wire).complete(ASK)
    assert getattr(caught.value, "billed", None) is billed
    assert len(wire.requests) == tries
    assert not any(secret in str(caught.value) for secret in (KEY, "sk-proj"))
    assert isinstance(caught.value, InfrastructureError) is (billed is not None)


@pytest.mark.parametrize("api", APIS)
def test_the_sdk_tries_again_by_itself(api: str, serve) -> None:
    wire = serve([Fault(529), Fault(500), Say("{}")])
    assert provider(api, wire).complete(ASK).text == "{}"
    assert len(wire.requests) == 3


@pytest.mark.parametrize("api", APIS)
def test_an_answer_that_does_not_come_in_time_may_have_been_billed(api: str, serve) -> None:
    held = threading.Event()
    wire = serve([Fault(hold=held)])
    with pytest.raises(UnansweredError) as caught:
        provider(api, wire, timeout=0.3, retries=0).complete(ASK)
    held.set()
    assert caught.value.billed


def test_no_server_costs_nothing(serve) -> None:
    wire = serve([Say("{}")])
    nowhere = provider("anthropic", wire, retries=0)
    wire.close()
    with pytest.raises(UnansweredError, match="no connection") as caught:
        nowhere.complete(ASK)
    assert not caught.value.billed


@pytest.mark.parametrize("api", APIS)
def test_refusals_and_cut_answers_are_told_apart(api: str, serve) -> None:
    wire = serve([Say("no", stop="refusal"), Say('{"a": ', stop="max_tokens")])
    model = provider(api, wire)
    assert [model.complete(ASK).stop for _ in range(2)] == ["refusal", "length"]


def test_tool_arguments_that_are_no_json_are_a_fault_of_the_call(serve) -> None:
    wire = serve([Say("", (Call("look", None, raw='{"x": '), Call("look", None, raw="[1]")))])
    calls = provider("openai", wire).complete(ASK).calls
    assert [bool(call.fault) for call in calls] == [True, True]
    assert [call.arguments for call in calls] == [{}, {}]


def test_an_endpoint_without_usage_is_not_taken_as_free(serve) -> None:
    assert not provider("openai", serve([Say("{}", usage=None)])).complete(ASK).usage.reported


def test_anthropic_counts_and_the_bound_holds(serve) -> None:
    wire = serve([Say("{}")])
    claude = provider("anthropic", wire)
    counted = claude.count(ASK)
    assert counted is not None
    assert wire.counts == 1
    assert 0 < counted < len(call_bytes(claude, ASK, 0))
    assert provider("openai", wire).count(ASK) is None


def test_without_a_key_nothing_is_opened() -> None:
    settings = ModelSettings(type="anthropic", model="m", api_key_env="A_KEY")
    with pytest.raises(MissingKeyError, match="environment variable A_KEY"):
        open_provider(settings, {})
    local = ModelSettings(type="openai", model="m", api_key_env="A_KEY", base_url="http://127.0.0.1:1/v1")
    open_provider(local, {}).close()
