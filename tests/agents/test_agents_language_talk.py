"""A talk with a model: tools are answered, schemas held, failures named."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import Field

from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.schema import Form, Package, Ruling, json_schema
from sia_flow.agents.language.talk import Talk
from sia_flow.agents.language.toolbox import LIMIT, Arguments, Handle, Toolbox, UnusableError
from sia_flow.dialogue import Opaque, Reply, ToolUse, Usage
from tests.agents.talks import Scripted, says


class Sum(Form):
    """A sum."""

    total: Annotated[int, Field(ge=0)]
    """The sum."""


class Terms(Arguments):
    """Two numbers."""

    a: int
    """One."""
    b: int
    """Two."""


def add(terms: Terms) -> str:
    if terms.a == 13:
        raise UnusableError("13 is unlucky")
    return "9" * terms.b if terms.b > 100 else str(terms.a + terms.b)


def talk(*replies: Reply, turns: int = 9) -> tuple[Talk[Sum], Scripted]:
    model = Scripted(*replies)
    return Talk(model, ("static",), Toolbox([Handle("add", "Add.", Terms, add)]), Sum, turns), model


def test_tools_are_used_and_the_answer_is_read() -> None:
    adding, model = talk(says("so", ("add", {"a": 1, "b": 2})), says('{"total": 3}'))
    assert adding.answer("add 1 and 2").total == 3
    assert [(r.text, r.failed) for r in model.results] == [("3", False)]
    assert [m.role for m in model.asked[-1].messages] == ["user", "assistant", "user"]
    lines = [json.loads(line) for line in adding.transcript().splitlines()]
    assert lines[0]["model"] == "scripted"
    assert len(lines) == 5
    assert '"total": 3' in lines[-1]["blocks"][0]["text"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("bash", {"command": "cat /etc/passwd"}), "there is no tool 'bash'; there are add"),
        (("add", {"a": 1}), "b: Field required"),
        (("add", {"a": 1, "b": 2, "c": 3}), "c: Extra inputs"),
        (("add", {"a": 13, "b": 0}), "13 is unlucky"),
    ],
)
def test_a_call_that_cannot_be_done_is_answered_with_why(call: tuple[str, Any], words: str) -> None:
    adding, model = talk(says("", call), says('{"total": 0}'))
    adding.answer("add")
    (result,) = model.results
    assert result.failed
    assert words in result.text


def test_broken_arguments_and_long_results_are_bounded() -> None:
    broken = Reply(blocks=(ToolUse(id="t", name="add", fault="no JSON"),), stop="tools", usage=Usage())
    adding, model = talk(broken, says("", ("add", {"a": 0, "b": 50_000})), says('{"total": 0}'))
    adding.answer("add")
    assert len(model.results[0].text) < LIMIT + 100
    assert "38000 more characters" in model.results[0].text
    assert "no JSON" in model.asked[1].model_dump_json()


def test_an_answer_in_a_fence_counts_and_a_broken_one_goes_back_once() -> None:
    adding, model = talk(says("the total is 3"), says('```json\n{"total": 3}\n```'))
    assert adding.answer("add").total == 3
    assert "no answer by the schema" in model.heard
    for bad in ('{"total": -1}', '{"sum": 1}', "[]", ""):
        again, model = talk(says("nonsense"), says(bad))
        with pytest.raises(AgentFailedError, match="answered twice against the schema") as caught:
            again.answer("add")
        assert caught.value.code == "schema"


def test_a_refusal_a_full_context_and_a_cut_answer_have_names() -> None:
    for stop, code in (("refusal", "refusal"), ("context", "context")):
        with pytest.raises(AgentFailedError) as caught:
            talk(says("I will not", stop=stop))[0].answer("add")  # type: ignore[arg-type]
        assert caught.value.code == code
    cut, model = talk(says('{"tot', stop="length"), says('{"tot', stop="length"))
    with pytest.raises(AgentFailedError, match="cut off at max_tokens") as caught:
        cut.answer("add")
    assert caught.value.code == "length"
    torn, model = talk(says("", ("add", {"a": 1, "b": 1}), stop="length"), says('{"total": 2}'))
    torn.answer("add")
    assert model.results[0].failed


def test_turns_run_out_after_a_last_word() -> None:
    endless = [says("", ("add", {"a": 1, "b": 1})) for _ in range(3)]
    adding, model = talk(*endless, turns=3)
    with pytest.raises(AgentFailedError, match="used up its turns") as caught:
        adding.answer("add")
    assert caught.value.code == "turns"
    assert len(model.asked) == 3
    closing, model = talk(says("", ("add", {"a": 1, "b": 1})), says('{"total": 2}'), turns=2)
    assert closing.answer("add").total == 2
    warned, model = talk(says("", ("add", {"a": 1, "b": 1})), says("", ("add", {"a": 1, "b": 1})), turns=2)
    with pytest.raises(AgentFailedError):
        warned.answer("add")
    assert "close with your answer now" in model.heard


def test_a_pause_is_asked_again_as_it_is() -> None:
    opaque = Opaque(data={"type": "thinking", "thinking": "hm", "signature": "s"})
    paused = Reply(blocks=(opaque,), stop="pause", usage=Usage())
    adding, model = talk(paused, says('{"total": 1}'))
    assert adding.answer("add").total == 1
    assert model.asked[1].messages[-1].blocks == (opaque,)


def objects(schema: Any) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) and "properties" in schema else []
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return found + [item for child in children for item in objects(child)]


@pytest.mark.parametrize("form", [Ruling, Package, Sum])
def test_schemas_are_what_providers_take(form: type[Form]) -> None:
    schema = json_schema(form)
    text = json.dumps(schema)
    assert not any(word in text for word in ("$ref", "maxLength", "minimum", "maximum", '"title"', '"default"'))
    for node in objects(schema):
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])
