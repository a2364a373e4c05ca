"""Any OpenAI-compatible endpoint, by OpenAI's SDK on chat completions: vLLM, SGLang, OpenRouter, one of your own.

Invariant: a feature that the settings do not name is not sent; an endpoint that reports no usage is never free.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sia_flow.dialogue import Ask, Block, Message, Reply, Stop, Text, ToolResult, ToolUse, Usage
from sia_flow.errors import SpecError
from sia_flow.providers.faults import UnansweredError, fault_of
from sia_flow.providers.settings import ModelSettings

STOPS: dict[str, Stop] = {
    "stop": "end",
    "tool_calls": "tools",
    "function_call": "tools",
    "length": "length",
    "content_filter": "refusal",
}


class OpenAIProvider:
    """One model of one endpoint."""

    def __init__(self, settings: ModelSettings, key: str) -> None:
        try:
            import openai
        except ModuleNotFoundError as error:
            raise SpecError("type: openai needs the SDK: pip install 'sia-flow[openai]'") from error
        self._settings = settings
        self._key = key
        # A server of one's own often wants no key, and the SDK wants one.
        self._client = openai.OpenAI(
            api_key=key or "none", base_url=settings.base_url, timeout=settings.timeout, max_retries=settings.retries
        )

    @property
    def settings(self) -> ModelSettings:
        """The model, and how it is asked."""
        return self._settings

    def complete(self, ask: Ask) -> Reply:
        """Make one call. Raises ProviderError or UnansweredError."""
        import httpx2
        import openai

        # One signature for every request: the SDK's overloads want literals.
        create: Any = self._client.chat.completions.create
        try:
            if not self._settings.stream:
                return _whole(create(**self._request(ask)))
            options = {"stream": True, "stream_options": {"include_usage": True}}
            return _streamed(create(**self._request(ask), **options))
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise fault_of(error, self._settings, self._key) from error
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            words = f"{self._settings.model}: the answer cannot be read ({type(error).__name__}: {str(error)[:200]})"
            raise UnansweredError(words, billed=True) from error

    def count(self, ask: Ask) -> int | None:
        """Return None: these endpoints do not count."""
        del ask
        return None

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()

    def _request(self, ask: Ask) -> dict[str, Any]:
        settings = self._settings
        # OpenAI's own newer models refuse `max_tokens`, and many servers know nothing else.
        limit = "max_completion_tokens" if settings.base_url is None else "max_tokens"
        request: dict[str, Any] = {"model": settings.model, limit: settings.max_tokens}
        system = {"role": "system", "content": "\n\n".join(ask.system)}
        request["messages"] = [system, *(part for message in ask.messages for part in _parts(message))]
        if ask.tools:
            request["tools"] = [
                {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": schema}}
                for t in ask.tools
                for schema in [dict(t.parameters)]
            ]
        if ask.answer is not None and settings.output == "schema":
            named = {"name": "answer", "schema": dict(ask.answer), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": named}
        if settings.temperature is not None:
            request["temperature"] = settings.temperature
        if settings.effort is not None:
            request["reasoning_effort"] = settings.effort
        return {**request, "extra_body": dict(settings.extra)} if settings.extra else request


def _parts(message: Message) -> list[dict[str, Any]]:
    """Return a message as this API has it: each tool's result is a message of its own."""
    results = [
        {"role": "tool", "tool_call_id": block.id, "content": block.text}
        for block in message.blocks
        if isinstance(block, ToolResult)
    ]
    words = "\n\n".join(block.text for block in message.blocks if isinstance(block, Text))
    calls = [_call(block) for block in message.blocks if isinstance(block, ToolUse)]
    if calls:
        return [{"role": message.role, "content": words or None, "tool_calls": calls}]
    return [*results, *([{"role": message.role, "content": words}] if words or not results else [])]


def _call(block: ToolUse) -> dict[str, Any]:
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": json.dumps(dict(block.arguments))},
    }


@dataclass(slots=True)
class _Collected:
    """What a stream has brought so far."""

    words: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish: str | None = None
    usage: Any = None

    def take(self, delta: Any) -> None:
        """Add a piece."""
        self.words.append(delta.content or "")
        self.refusal.append(getattr(delta, "refusal", None) or "")
        for piece in delta.tool_calls or ():
            call = self.calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            call["id"] = piece.id or call["id"]
            call["name"] += (piece.function.name or "") if piece.function else ""
            call["arguments"] += (piece.function.arguments or "") if piece.function else ""

    def reply(self) -> Reply:
        """Return the whole. Raises ValueError for a stream that had no end."""
        if self.finish is None:
            raise ValueError("the stream ended before the answer did")
        uses = [_use(call["id"], call["name"], call["arguments"]) for _, call in sorted(self.calls.items())]
        return _finished("".join(self.words), "".join(self.refusal), uses, self.finish, self.usage)


def _streamed(chunks: Iterable[Any]) -> Reply:
    found = _Collected()
    for chunk in chunks:
        found.usage = getattr(chunk, "usage", None) or found.usage
        for choice in chunk.choices[:1]:
            found.take(choice.delta)
            found.finish = choice.finish_reason or found.finish
    return found.reply()


def _whole(completion: Any) -> Reply:
    choice = completion.choices[0]
    message = choice.message
    uses = [_use(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    refusal = getattr(message, "refusal", None) or ""
    return _finished(message.content or "", refusal, uses, choice.finish_reason, completion.usage)


def _finished(words: str, refusal: str, uses: list[ToolUse], finish: str, usage: Any) -> Reply:
    blocks: list[Block] = [Text(text=words)] if words else []
    stop: Stop = STOPS.get(finish, "end")
    if refusal:
        stop = "refusal"
    elif uses and stop == "end":
        stop = "tools"
    return Reply(blocks=(*blocks, *uses), stop=stop, usage=_usage(usage), detail=refusal[:300])


def _use(call: str, name: str, text: str) -> ToolUse:
    try:
        arguments = json.loads(text or "{}")
    except ValueError as error:
        return ToolUse(id=call, name=name, fault=f"the arguments are no JSON: {error}")
    if not isinstance(arguments, dict):
        return ToolUse(id=call, name=name, fault="the arguments are no JSON object")
    return ToolUse(id=call, name=name, arguments=arguments)


def _usage(usage: Any) -> Usage:
    if usage is None or usage.prompt_tokens is None:
        return Usage(reported=False)
    details = getattr(usage, "prompt_tokens_details", None)
    cached = (getattr(details, "cached_tokens", None) or 0) if details else 0
    return Usage(input=usage.prompt_tokens - cached, output=usage.completion_tokens or 0, cache_read=cached)
