"""What an agent and a language model say to each other, the same for every provider.

Invariant: everything here is plain JSON, so that a call has a digest and an answer can be stored and given again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from sia_flow.lineage.records import Record

Stop = Literal["end", "tools", "length", "refusal", "context", "pause"]
"""Why a model stopped: done, wants tools, `max_tokens`, refuses, context full, or to be asked again as it is."""


class Text(Record):
    """Words."""

    type: Literal["text"] = "text"
    text: str


class ToolUse(Record):
    """A model asks for a tool."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    arguments: Mapping[str, Any] = Field(default_factory=dict)
    fault: str = ""
    """Why the arguments cannot be read; empty where they can."""


class ToolResult(Record):
    """The answer to a tool call."""

    type: Literal["tool_result"] = "tool_result"
    id: str
    text: str
    failed: bool = False


class Opaque(Record):
    """A block of the provider's own (its thinking, say), which goes back to it as it came."""

    type: Literal["opaque"] = "opaque"
    data: Mapping[str, Any]


Block = Annotated[Text | ToolUse | ToolResult | Opaque, Field(discriminator="type")]


class Message(Record):
    """One turn of one side."""

    role: Literal["user", "assistant"]
    blocks: tuple[Block, ...]


class Tool(Record):
    """A tool that the model may ask for."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of its arguments."""


class Ask(Record):
    """One call of a model: the whole conversation so far."""

    system: tuple[str, ...]
    """Static parts first: they are what a provider may cache."""
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    answer: Mapping[str, Any] | None = None
    """JSON Schema of the closing answer."""


class Usage(Record):
    """Tokens of one call, as the provider bills them; `input` is what neither came from its cache nor went there."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reported: bool = True
    """False where the endpoint told nothing."""

    @property
    def total(self) -> int:
        """All tokens."""
        return self.input + self.output + self.cache_read + self.cache_write


class Reply(Record):
    """What the model answered."""

    blocks: tuple[Block, ...]
    stop: Stop
    usage: Usage
    detail: str = ""
    """The provider's word on a refusal."""

    @property
    def text(self) -> str:
        """Its words, joined."""
        return "".join(block.text for block in self.blocks if isinstance(block, Text))

    @property
    def calls(self) -> tuple[ToolUse, ...]:
        """The tools that it asks for."""
        return tuple(block for block in self.blocks if isinstance(block, ToolUse))


class Talker(Protocol):
    """A model that an agent may talk to; every call is paid from a budget, and answered once."""

    @property
    def model(self) -> str:
        """Its name, for reports."""

    def ask(self, ask: Ask) -> Reply:
        """Return the model's answer.

        Raises BudgetSpentError before a call that might pass a cap, ProviderError for what the provider refuses, and
        InfrastructureError where it does not answer.
        """
