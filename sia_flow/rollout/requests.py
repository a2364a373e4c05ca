"""What a scaffold may ask of the host, parsed strictly: everything here was written by a model.

Invariant: a request that is out of bounds is refused with a reason that the scaffold can read; it never reaches the
policy or a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

MAX_COMPLETIONS = 64
MAX_TOKENS = 1 << 16


class RefusedRequest(ValueError):  # noqa: N818 - what it is, not a fault of ours
    """A scaffold's request is out of bounds; the text goes back to the scaffold."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Function(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = {}


class _Tool(_Strict):
    type: Literal["function"] = "function"
    function: _Function


class _Called(_Strict):
    name: Annotated[str, Field(min_length=1, max_length=64)]
    arguments: str


class _Call(_Strict):
    id: str
    type: Literal["function"] = "function"
    function: _Called


class _Message(_Strict):
    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=1 << 20)]
    tool_calls: Annotated[list[_Call], Field(min_length=1, max_length=16)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _rules(self) -> _Message:
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError("only an assistant calls tools")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of a tool, and no other, says by tool_call_id which call it answers")
        return self


class GenerateRequest(_Strict):
    """Arguments of `job.generate`."""

    messages: Annotated[list[_Message], Field(min_length=1, max_length=256)]
    n: Annotated[int, Field(ge=1, le=MAX_COMPLETIONS)] = 1
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    tools: Annotated[list[_Tool], Field(max_length=64)] = []

    @model_validator(mode="after")
    def _rules(self) -> GenerateRequest:
        """Refuse an answer to a call that nobody made."""
        made: set[str] = set()
        for message in self.messages:
            made |= {call.id for call in message.tool_calls or ()}
            if message.tool_call_id is not None and message.tool_call_id not in made:
                raise ValueError(f"no message before calls a tool as {message.tool_call_id}")
        return self

    def plain_messages(self) -> tuple[Mapping[str, Any], ...]:
        """Return the messages as plain mappings, without what is not set."""
        return tuple(message.model_dump(exclude_none=True) for message in self.messages)

    def plain_tools(self) -> tuple[Mapping[str, Any], ...]:
        """Return the tools as plain mappings."""
        return tuple(tool.model_dump() for tool in self.tools)


def parse_generate(params: Mapping[str, Any]) -> GenerateRequest:
    """Parse the arguments of `job.generate`. Raises RefusedRequest that names each fault."""
    try:
        return GenerateRequest.model_validate(dict(params), strict=False)
    except ValidationError as error:
        raise RefusedRequest(f"generate: {_faults(error)}") from error


class FetchRequest(_Strict):
    """Arguments of `job.fetch`."""

    url: Annotated[str, Field(min_length=1, max_length=4096)]
    headers: dict[
        Annotated[Literal["accept", "accept-language", "range"], BeforeValidator(lambda name: str(name).lower())],
        Annotated[str, Field(pattern=r"^[ -~]{1,300}$")],
    ] = {}


def parse_fetch(params: Mapping[str, Any]) -> FetchRequest:
    """Parse the arguments of `job.fetch`. Raises RefusedRequest that names each fault."""
    try:
        return FetchRequest.model_validate(dict(params))
    except ValidationError as error:
        raise RefusedRequest(f"fetch: {_faults(error)}") from error


def parse_program(params: Mapping[str, Any]) -> str:
    """Parse the arguments of `job.tools.score_visible`. Raises RefusedRequest."""
    program = params.get("program")
    if set(params) != {"program"} or not isinstance(program, str) or len(program) > 1 << 16:
        raise RefusedRequest("score_visible takes one argument, program: a text of at most 65536 characters")
    return program


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
