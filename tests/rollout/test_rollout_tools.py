"""A scaffold that carries out what a policy calls: the calls reach it, its answers reach the prompt, all is logged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sia_flow.lineage.records import Trajectory
from sia_flow.loop.lab import Lab
from sia_flow.policy.prompts import render, said
from sia_flow.protocols import Completion, SampleRequest
from sia_flow.rollout.engine import plan_work
from tests.policy.harmony import LOOK, ids, speaking

SCAFFOLD = f"""
import json

def solve(job):
    said = [{{"role": "user", "content": "How many?"}}]
    for _ in range(4):
        (text,) = job.generate(said, tools=[{LOOK!r}])
        if not text.tool_calls:
            return text
        said.append({{"role": "assistant", "content": text, "tool_calls": text.tool_calls}})
        for call in text.tool_calls:
            row = json.loads(call["function"]["arguments"])["row"]
            said.append({{"role": "tool", "tool_call_id": call["id"], "content": str(10 * row)}})
    return "none"
"""
TRY = """
def solve(job):
    try:
        return "answered: " + job.generate(ODD if job.seed % 2 else EVEN)[0]
    except RuntimeError as error:
        return "refused: " + str(error)
"""


class Scripted:
    """Calls `look` with the row 1, then 2, then answers what the last prompt ends with. Prompts are really rendered."""

    version = "scripted"
    at_once = 0

    def __init__(self) -> None:
        self.tokenizer = speaking()
        self.prompts: list[str] = []

    def hold(self) -> Scripted:
        """Return itself."""
        return self

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Completion]]:
        """Return what the script has for the number of answers that a prompt holds."""
        found = []
        for request in requests:
            prompt = render(self.tokenizer, request.messages, 10_000, request.tools)
            self.prompts.append(self.tokenizer.decode(prompt))
            answers = sum(message["role"] == "tool" for message in request.messages)
            text = f' to=functions.look<|channel|>commentary json<|message|>{{"row": {answers + 1}}}<|call|>'
            if answers == 2 or not request.tools:
                text = f"<|channel|>final<|message|>{request.messages[-1]['content']}<|return|>"
            tokens = ids(self.tokenizer, text)
            words, calls = said(self.tokenizer, tokens)
            probable = (-0.5,) * len(tokens)
            found.append([Completion(words, prompt, tuple(tokens), probable, "stop", calls=calls)] * request.n)
        return found


def roll(lab: Lab, policy: Any, source: str, count: int = 1) -> list[Trajectory]:
    work = plan_work(lab.instances("train", 1), count, "tools")
    return lab.engine("train").run({"scaffold.py": source}, policy, work)


def test_a_scaffold_carries_calls_out(lab: Lab) -> None:
    policy = Scripted()
    (found,) = roll(lab, policy, SCAFFOLD)
    assert (found.status, found.answer) == ("OK", "20")
    assert [turn.calls for turn in found.turns] == [
        ({"name": "look", "arguments": '{"row": 1}'},),
        ({"name": "look", "arguments": '{"row": 2}'},),
        (),
    ]
    assert found.turns[0].offered[0]["function"]["name"] == "look"
    assert [call["id"] for call in found.turns[2].messages[3]["tool_calls"]] == ["call_1_0"]
    assert '<|start|>functions.look to=assistant<|channel|>commentary<|message|>"10"<|end|>' in policy.prompts[-1]
    assert Trajectory.model_validate(json.loads(found.model_dump_json())) == found


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "tool", "content": "7"}], "tool_call_id"),
        ([{"role": "user", "content": "7", "tool_call_id": "x"}], "tool_call_id"),
        ([{"role": "tool", "content": "7", "tool_call_id": "x"}], "no message before calls a tool as x"),
        ([{"role": "assistant", "content": "<|channel|>final<|message|>7"}], "the chat template refuses"),
    ],
)
def test_messages_that_make_no_sense_are_refused_alone(lab: Lab, messages: list[dict[str, str]], words: str) -> None:
    user = {"role": "user", "content": "a"}
    source = f"ODD = {[user, *messages, user]!r}\nEVEN = {[user]!r}\n{TRY}"
    found = roll(lab, Scripted(), source, 8)
    refused = [t for t in found if t.seed % 2]
    assert 0 < len(refused) < 8
    assert all(words in (t.answer or "") and (t.answer or "").startswith("refused") for t in refused)
    assert {t.answer for t in found if not t.seed % 2} == {"answered: a"}
