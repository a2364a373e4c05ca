"""Claude, by Anthropic's SDK on its Messages API, or whatever speaks it.

Invariant: a feature that the settings do not name is not sent; blocks that are not ours to read go back as they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sia_flow.dialogue import Ask, Block, Message, Opaque, Reply, Stop, Text, ToolResult, ToolUse, Usage
from sia_flow.errors import SpecError
from sia_flow.providers.faults import UnansweredError, fault_of
from sia_flow.providers.settings import ModelSettings

if TYPE_CHECKING:
    import anthropic.types

STOPS: dict[str, Stop] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_use": "tools",
    "max_tokens": "length",
    "refusal": "refusal",
    "model_context_window_exceeded": "context",
    "pause_turn": "pause",
}
EPHEMERAL = {"type": "ephemeral"}


class AnthropicProvider:
    """One Claude model."""

    def __init__(self, settings: ModelSettings, key: str) -> None:
        try:
            import anthropic
        except ModuleNotFoundError as error:
            raise SpecError("type: anthropic needs the SDK: pip install 'sia-flow[claude]'") from error
        self._settings = settings
        self._key = key
        self._client = anthropic.Anthropic(
            api_key=key, base_url=settings.base_url, timeout=settings.timeout, max_retries=settings.retries
        )

    @property
    def settings(self) -> ModelSettings:
        """The model, and how it is asked."""
        return self._settings

    def complete(self, ask: Ask) -> Reply:
        """Make one call. Raises ProviderError or UnansweredError."""
        import anthropic
        import httpx2

        request = {"max_tokens": self._settings.max_tokens, **self._request(ask), **self._sampling()}
        try:
            if not self._settings.stream:
                return _reply(self._client.messages.create(**request))
            with self._client.messages.stream(**request) as stream:
                return _reply(stream.get_final_message())
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            raise fault_of(error, self._settings, self._key) from error
        except (ValueError, AssertionError, AttributeError, TypeError) as error:
            # The SDK's own words for a stream that makes no sense.
            words = f"{self._settings.model}: the answer cannot be read ({type(error).__name__}: {str(error)[:200]})"
            raise UnansweredError(words, billed=True) from error

    def count(self, ask: Ask) -> int | None:
        """Return the tokens of the prompt; None where the endpoint cannot count."""
        import anthropic

        try:
            return self._client.messages.count_tokens(**self._request(ask)).input_tokens
        except anthropic.AnthropicError:
            return None

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()

    def _request(self, ask: Ask) -> dict[str, Any]:
        settings = self._settings
        system: list[dict[str, Any]] = [{"type": "text", "text": text} for text in ask.system]
        request: dict[str, Any] = {"model": settings.model, "messages": [_message(m) for m in ask.messages]}
        if settings.cache:
            # One mark after the parts that never change, one that moves with the conversation.
            system[-1]["cache_control"] = EPHEMERAL
            request["cache_control"] = EPHEMERAL
        request["system"] = system
        if ask.tools:
            request["tools"] = [
                {"name": t.name, "description": t.description, "input_schema": dict(t.parameters)} for t in ask.tools
            ]
        output: dict[str, Any] = {} if settings.effort is None else {"effort": settings.effort}
        if ask.answer is not None and settings.output == "schema":
            output["format"] = {"type": "json_schema", "schema": dict(ask.answer)}
        if output:
            request["output_config"] = output
        if settings.thinking is not None:
            request["thinking"] = _thinking(settings.thinking)
        return request

    def _sampling(self) -> dict[str, Any]:
        """Return what the SDK has no argument for: older models know it, and gateways."""
        body = dict(self._settings.extra or {})
        if self._settings.temperature is not None:
            body["temperature"] = self._settings.temperature
        return {"extra_body": body} if body else {}


def _thinking(thinking: str | int) -> dict[str, Any]:
    return {"type": thinking} if isinstance(thinking, str) else {"type": "enabled", "budget_tokens": thinking}


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": [_param(block) for block in message.blocks]}


def _param(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    if isinstance(block, ToolUse):
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": dict(block.arguments)}
    if isinstance(block, ToolResult):
        found: dict[str, Any] = {"type": "tool_result", "tool_use_id": block.id, "content": block.text}
        return {**found, "is_error": True} if block.failed else found
    return dict(block.data)


def _reply(message: anthropic.types.Message) -> Reply:
    usage = message.usage
    details = message.stop_details
    return Reply(
        blocks=tuple(_blocks(message)),
        stop=STOPS[message.stop_reason or "end_turn"],
        usage=Usage(
            input=usage.input_tokens,
            output=usage.output_tokens,
            cache_read=usage.cache_read_input_tokens or 0,
            cache_write=usage.cache_creation_input_tokens or 0,
        ),
        detail="" if details is None else str(details.model_dump(exclude_none=True))[:300],
    )


def _blocks(message: anthropic.types.Message) -> Iterator[Block]:
    for block in message.content:
        if block.type == "text":
            if block.text:
                yield Text(text=block.text)
        elif block.type == "tool_use":
            readable = isinstance(block.input, dict)
            fault = "" if readable else "the arguments are no JSON object"
            yield ToolUse(id=block.id, name=block.name, arguments=block.input if readable else {}, fault=fault)
        else:
            yield Opaque(data=block.model_dump(mode="json", exclude_none=True))
