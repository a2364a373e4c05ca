"""The OpenAI wire format, as far as a sampler needs it: what is asked and what comes back, as plain data.

Invariant: token ids and log-probabilities are taken from an answer only where they are whole, one log-probability
for each token; otherwise the answer counts as text alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sia_flow.protocols import Called, SampleRequest

ID_PREFIX = "token_id:"
"""How vLLM spells a token under `return_tokens_as_token_ids`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One completion as a server gave it."""

    text: str
    finish: Literal["stop", "length"]
    ids: tuple[int, ...] | None = None
    """Sampled tokens; None where the server gives text alone."""
    logprobs: tuple[float, ...] | None = None
    """Their log-probabilities; None where they are missing or not whole."""
    top: float | None = None
    """Largest log-probability at the first token, where it was asked for."""
    calls: tuple[Called, ...] = ()
    """Tools that it calls, where the server has read them out of the completion."""


def token_body(model: str, prompt: Sequence[int], request: SampleRequest, n: int, seed: int) -> dict[str, Any]:
    """Return a request of `/completions` by token ids, with the extensions of vLLM and SGLang.

    Filters that a checkpoint's generation configuration may bring in are switched off: the log-probabilities are to
    be those of the whole distribution.
    """
    return {
        "model": model,
        "prompt": list(prompt),
        "n": n,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": seed,
        "logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "skip_special_tokens": False,
    }


def chat_body(model: str, request: SampleRequest, n: int, seed: int) -> dict[str, Any]:
    """Return a request of `/chat/completions` that holds nothing but what OpenAI's own interface knows."""
    return {
        "model": model,
        "messages": [dict(message) for message in request.messages],
        "n": n,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": 1.0,
        "seed": seed,
        **({"tools": [dict(tool) for tool in request.tools]} if request.tools else {}),
    }


def choices(body: Mapping[str, Any]) -> list[Choice] | None:
    """Return the completions of an answer in their order; None where it has not the form of one."""
    found = body.get("choices")
    if not isinstance(found, list) or not all(isinstance(choice, Mapping) for choice in found):
        return None
    parsed = [_choice(choice) for choice in sorted(found, key=_index)]
    return [choice for choice in parsed if choice is not None] if all(parsed) else None


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _choice(choice: Mapping[str, Any]) -> Choice | None:
    message = choice.get("message")
    calls = _calls(message.get("tool_calls")) if isinstance(message, Mapping) else ()
    text = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    finish: Literal["stop", "length"] = "length" if choice.get("finish_reason") == "length" else "stop"
    if not isinstance(text, str):
        return None if text is not None else Choice("", finish, calls=calls)
    detail = choice.get("logprobs")
    detail = detail if isinstance(detail, Mapping) else {}
    ids = _ids(choice.get("token_ids")) or _spelled(detail.get("tokens"))
    logprobs = _logprobs(detail.get("token_logprobs"), ids)
    return Choice(text, finish, ids, logprobs, _top(detail.get("top_logprobs")), calls)


def _calls(found: object) -> tuple[Called, ...]:
    functions = [call.get("function") for call in found if isinstance(call, Mapping)] if isinstance(found, list) else []
    named = [one for one in functions if isinstance(one, Mapping) and isinstance(one.get("name"), str)]
    return tuple(Called(one["name"], str(one.get("arguments", ""))) for one in named)


def _ids(found: object) -> tuple[int, ...] | None:
    if not isinstance(found, list) or not found or not all(type(token) is int and token >= 0 for token in found):
        return None
    return tuple(found)


def _spelled(found: object) -> tuple[int, ...] | None:
    """Return token ids out of `token_id:17`."""
    if not isinstance(found, list) or not found:
        return None
    tokens = [str(token) for token in found]
    if not all(token.startswith(ID_PREFIX) and token[len(ID_PREFIX) :].isdigit() for token in tokens):
        return None
    return tuple(int(token[len(ID_PREFIX) :]) for token in tokens)


def _logprobs(found: object, ids: tuple[int, ...] | None) -> tuple[float, ...] | None:
    if ids is None or not isinstance(found, list) or len(found) != len(ids):
        return None
    whole = all(isinstance(value, int | float) and math.isfinite(value) and value <= 1e-3 for value in found)
    return tuple(min(float(value), 0.0) for value in found) if whole else None


def _top(found: object) -> float | None:
    first = found[0] if isinstance(found, list) and found else None
    values = [value for value in first.values() if isinstance(value, int | float)] if isinstance(first, dict) else []
    return max(values) if values else None
