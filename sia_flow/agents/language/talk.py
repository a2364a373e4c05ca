"""A talk with a model: it may use tools for some turns, and ends with one answer that fits a schema.

Invariants: every tool call is answered, so that the history is always one that a provider takes; an answer that
breaks its schema is sent back once; whatever comes back is data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from sia_flow.agents.language.faults import AgentFailedError, Code
from sia_flow.agents.language.schema import json_schema
from sia_flow.agents.language.toolbox import Toolbox
from sia_flow.canonical import canonical_json
from sia_flow.dialogue import Ask, Block, Message, Reply, Talker, Text, ToolResult

Form = TypeVar("Form", bound=BaseModel)
FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n```", re.DOTALL)


class Talk(Generic[Form]):
    """One task put to a model."""

    def __init__(self, talker: Talker, system: Sequence[str], tools: Toolbox, form: type[Form], turns: int) -> None:
        self.talker = talker
        self.form = form
        self.turns = turns
        self.messages: list[Message] = []
        self._tools = tools
        self._schema = json_schema(form)
        words = "Close with one JSON object and nothing else. Its schema:\n" + json.dumps(self._schema)
        self._system = (*system, words)
        self._repaired = False

    def answer(self, words: str) -> Form:
        """Say something and return the answer, once it fits the schema. Raises AgentFailedError and what `ask` does."""
        self._say([Text(text=words)])
        while self.turns > 0:
            self.turns -= 1
            reply = self._ask()
            if reply.stop == "pause":
                continue
            if reply.calls:
                self._use(reply)
                continue
            found = self._read(reply)
            if found is not None:
                return found
        raise AgentFailedError("turns", f"{self.talker.model} used up its turns without an answer")

    def transcript(self) -> bytes:
        """Return what was said, one JSON line a message, the system's words first."""
        head = {"model": self.talker.model, "system": list(self._system)}
        lines = [head, *(message.model_dump(mode="json") for message in self.messages)]
        return b"".join(canonical_json(line) + b"\n" for line in lines)

    def _ask(self) -> Reply:
        ask = Ask(system=self._system, messages=tuple(self.messages), tools=self._tools.described, answer=self._schema)
        reply = self.talker.ask(ask)
        if reply.blocks:
            self.messages.append(Message(role="assistant", blocks=reply.blocks))
        if reply.stop == "refusal":
            raise AgentFailedError("refusal", f"{self.talker.model} refuses: {reply.detail or reply.text[:200]}")
        if reply.stop == "context":
            raise AgentFailedError("context", f"the talk is too long for {self.talker.model}: lower evidence or turns")
        return reply

    def _use(self, reply: Reply) -> None:
        """Answer every tool call of a reply."""
        results: list[Block] = []
        for call in reply.calls:
            if reply.stop == "length":
                result = ToolResult(id=call.id, text="your answer was cut off at max_tokens; be shorter", failed=True)
            elif self.turns <= 1:
                result = ToolResult(id=call.id, text="no more tools: close with your answer now", failed=True)
            else:
                result = self._tools.call(call)
            results.append(result)
        self._say(results)

    def _read(self, reply: Reply) -> Form | None:
        """Return the answer; None where it was sent back. Raises AgentFailedError for the second that is broken."""
        try:
            return self.form.model_validate_json(_json_text(reply.text))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:6])
        if reply.stop == "length":
            faults = "it was cut off at max_tokens; be shorter"
        if self._repaired:
            code: Code = "length" if reply.stop == "length" else "schema"
            raise AgentFailedError(code, f"{self.talker.model} answered twice against the schema: {faults}")
        self._repaired = True
        self._say([Text(text=f"That is no answer by the schema: {faults}. Answer again, with the JSON object alone.")])
        return None

    def _say(self, blocks: Sequence[Block]) -> None:
        """Add to our side; two messages of ours in a row become one, since sides take turns."""
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "user":
            self.messages[-1] = Message(role="user", blocks=(*last.blocks, *blocks))
        else:
            self.messages.append(Message(role="user", blocks=tuple(blocks)))


def _json_text(text: str) -> str:
    """Return the JSON in an answer: the whole, or what stands in its only fence."""
    fences = FENCED.findall(text)
    return fences[0] if len(fences) == 1 else text.strip()
