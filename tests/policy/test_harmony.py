"""Harmony, the format of gpt-oss: the published template in, channels and tool calls out, with its marks as tokens."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.policy import prompts
from sia_flow.policy.harmony import Said, read
from sia_flow.policy.prompts import render, said
from sia_flow.protocols import Called, RequestError
from tests.policy.harmony import LOOK, ids, speaking

CALL = '<|start|>assistant to=functions.look<|channel|>commentary json<|message|>{"row": 3}<|call|>'
NEWER = "<|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>{}<|call|>"
ASK = {"role": "user", "content": "How many?"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return speaking()


def test_a_conversation_with_a_tool_is_rendered_as_the_format_has_it(tokenizer: Any) -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"row": 3}'}}
    messages = [
        {"role": "system", "content": "Count."},
        ASK,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "7"},
    ]
    text = tokenizer.decode(render(tokenizer, messages, 10_000, [LOOK]), skip_special_tokens=False)
    assert "Calls to these tools must go to the commentary channel: 'functions'." in text
    assert "# Instructions\n\nCount." in text
    assert "// Look at a row.\ntype look = (_: {\nrow: number,\n}) => any;" in text
    assert text.endswith(
        "<|start|>user<|message|>How many?<|end|>"
        '<|start|>assistant to=functions.look<|channel|>commentary json<|message|>{"row": 3}<|call|>'
        '<|start|>functions.look to=assistant<|channel|>commentary<|message|>"7"<|end|><|start|>assistant'
    )


def test_a_prompt_is_the_same_on_any_day(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = render(tokenizer, [ASK], 10_000)
    assert "Current date: 2026-01-01" in tokenizer.decode(first)
    monkeypatch.setattr(prompts, "TODAY", prompts.TODAY.replace(day=2))
    assert render(tokenizer, [ASK], 10_000) != first


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<|channel|>final<|message|>Seven.<|return|>", Said("Seven.")),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>7<|return|>", Said("7")),
        ("<|channel|>analysis<|message|>Hm, it was cut", Said("")),
        ("<|channel|>final<|message|>Sev", Said("Sev")),
        (
            "<|channel|>analysis<|message|>Look.<|end|>" + CALL,
            Said("", (Called("look", '{"row": 3}'),)),
        ),
        (
            "<|channel|>commentary<|message|>I look.<|end|>" + NEWER,
            Said("I look.", (Called("look", "{}"),)),
        ),
        (" to=functions.look<|channel|>commentary json<|message|>{", Said("")),
        ("<|channel|>", Said("")),
        ("", Said("")),
    ],
)
def test_a_completion_says_what_is_for_the_user_and_for_tools(tokenizer: Any, text: str, found: Said) -> None:
    assert said(tokenizer, ids(tokenizer, text)) == found


def test_what_is_rendered_is_read_again(tokenizer: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"row": "\\"3\\""}'}}
    prompt = render(tokenizer, [ASK], 10_000)
    tokens = render(tokenizer, [ASK, {"role": "assistant", "content": "", "tool_calls": [call]}], 10_000)[len(prompt) :]
    (found,) = read(tokenizer, tokens).calls
    assert (found.name, json.loads(found.arguments)) == ("look", {"row": '"3"'})


@given(st.lists(st.integers(min_value=0, max_value=300), max_size=60))
def test_nothing_that_a_model_samples_is_an_error(tokenizer: Any, tokens: list[int]) -> None:
    size = len(tokenizer)
    found = said(tokenizer, [token % size for token in tokens])
    assert isinstance(found.text, str)


def test_a_checkpoint_without_a_template_is_nobody_elses_fault() -> None:
    bare = speaking()
    bare.chat_template = None
    with pytest.raises(ValueError, match=r"chat.template") as found:
        render(bare, [ASK], 10_000)
    assert not isinstance(found.value, RequestError)


def test_messages_that_the_template_refuses_are_the_askers_fault(tokenizer: Any) -> None:
    with pytest.raises(RequestError, match="no previous assistant message"):
        render(tokenizer, [ASK, {"role": "tool", "tool_call_id": "x", "content": "7"}], 10_000)
    for odd in (
        {"properties": "x"},
        {"properties": {"a": 3}},
        {"properties": {"a": {"type": {"b": 1}}}, "required": 3},
    ):
        tool = {"type": "function", "function": {**LOOK["function"], "parameters": odd}}
        with contextlib.suppress(RequestError):
            render(tokenizer, [ASK], 10_000, [tool])
    bad = {"role": "assistant", "content": "<|channel|>final<|message|>7"}
    with pytest.raises(RequestError, match="channel"):
        render(tokenizer, [ASK, bad, ASK], 10_000)
