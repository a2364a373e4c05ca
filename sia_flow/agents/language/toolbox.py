"""Tools: functions of a model's arguments that return text, parsed strictly and bounded.

Invariant: a tool reads records or runs something in the sandbox; none writes a file, opens a connection, or raises.
What it returns is marked as data, for much of it was written by models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sia_flow.agents.language.schema import json_schema
from sia_flow.dialogue import Tool, ToolResult, ToolUse

LIMIT = 12_000
"""Characters of one result."""


class Arguments(BaseModel):
    """Base of a tool's arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class UnusableError(Exception):
    """A tool was asked for something that is not there; its text goes back to the model."""


@dataclass(frozen=True, slots=True)
class Handle:
    """One tool: what it takes and what it does."""

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any], str]


class Toolbox:
    """The tools of one role."""

    def __init__(self, handles: Iterable[Handle]) -> None:
        self._handles = {handle.name: handle for handle in handles}
        self.described = tuple(
            Tool(name=h.name, description=h.description, parameters=json_schema(h.arguments))
            for h in self._handles.values()
        )
        """The tools as a provider is told of them."""

    def call(self, use: ToolUse) -> ToolResult:
        """Run a tool; what cannot be done is said in the result."""
        handle = self._handles.get(use.name)
        if handle is None:
            return _failed(use, f"there is no tool {use.name[:60]!r}; there are {', '.join(self._handles)}")
        if use.fault:
            return _failed(use, use.fault)
        try:
            arguments = handle.arguments.model_validate(dict(use.arguments))
            return ToolResult(id=use.id, text=bounded(handle.run(arguments)))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
            return _failed(use, faults)
        except UnusableError as error:
            return _failed(use, str(error))


def bounded(text: str, limit: int = LIMIT) -> str:
    """Return text cut to length, with a word on how much is missing; empty text by name, for providers refuse none."""
    if len(text) > limit:
        return f"{text[:limit]}\n[cut: {len(text) - limit} more characters; page or offset reaches them]"
    return text or "(empty)"


def _failed(use: ToolUse, words: str) -> ToolResult:
    return ToolResult(id=use.id, text=bounded(words), failed=True)
