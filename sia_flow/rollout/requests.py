"""What a scaffold may ask of the host, parsed strictly: everything here was written by a model.

Invariant: a request that is out of bounds is refused with a reason that the scaffold can read; it never reaches the
policy or a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_COMPLETIONS = 64
MAX_TOKENS = 1 << 16


class RefusedRequest(ValueError):  # noqa: N818 - what it is, not a fault of ours
    """A scaffold's request is out of bounds; the text goes back to the scaffold."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=1 << 20)]


class GenerateRequest(BaseModel):
    """Arguments of `job.generate`."""

    model_config = ConfigDict(extra="forbid")

    messages: Annotated[list[_Message], Field(min_length=1, max_length=256)]
    n: Annotated[int, Field(ge=1, le=MAX_COMPLETIONS)] = 1
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None

    def plain_messages(self) -> tuple[Mapping[str, str], ...]:
        """Return the messages as plain mappings with `role` and `content`."""
        return tuple({"role": m.role, "content": m.content} for m in self.messages)


def parse_generate(params: Mapping[str, Any]) -> GenerateRequest:
    """Parse the arguments of `job.generate`. Raises RefusedRequest that names each fault."""
    try:
        return GenerateRequest.model_validate(dict(params), strict=False)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise RefusedRequest(f"generate: {faults}") from error


def parse_program(params: Mapping[str, Any]) -> str:
    """Parse the arguments of `job.tools.score_visible`. Raises RefusedRequest."""
    program = params.get("program")
    if set(params) != {"program"} or not isinstance(program, str) or len(program) > 1 << 16:
        raise RefusedRequest("score_visible takes one argument, program: a text of at most 65536 characters")
    return program
