"""From messages to prompt tokens by the checkpoint's own chat template, and from tokens back to the reply.

Invariant: equal messages give equal tokens on any day. Templates that write the date into the prompt (gpt-oss, Llama 3)
get a fixed one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

from sia_flow.policy.harmony import Said, read, speaks_harmony
from sia_flow.protocols import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = date(2026, 1, 1)
"""What templates that ask for the date are told."""

_CONFUSED = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template runs into on messages and tools that a scaffold made up."""
_NOW = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")

Messages = Sequence[Mapping[str, Any]]


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, room: int, tools: Sequence[Mapping[str, Any]] = ()
) -> tuple[int, ...]:
    """Return the prompt's token ids, at most `room` of them: of a longer prompt the end is kept.

    `messages` and `tools` are those of a SampleRequest. Raises RequestError for messages that the template refuses,
    such as a tool's answer that nobody asked for.
    """
    from jinja2.exceptions import TemplateError

    offered = [dict(tool) for tool in tools] or None
    # Outside what is the asker's fault: a checkpoint without a template is the user's to mend.
    template = _dated(tokenizer.get_chat_template(tools=offered), TODAY)
    try:
        ids = tokenizer.apply_chat_template(
            [_unpacked(message) for message in messages],
            tools=offered,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
    except (TemplateError, *_CONFUSED) as error:
        raise RequestError(f"the chat template refuses these messages: {error}") from error
    return tuple(int(token) for token in ids[-max(room, 1) :])


@cache
def _dated(template: str, day: date) -> str:
    """Return a template with a day's date where it asks for the date."""
    return _NOW.sub(lambda found: json.dumps(day.strftime(found[2])), template)


def _unpacked(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with the arguments of its calls as objects, which is what templates expect of JSON texts."""
    if "tool_calls" not in message:
        return dict(message)
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


def said(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Said:
    """Return what a completion says: the text without special tokens and, of a Harmony completion, the calls."""
    if speaks_harmony(tokenizer):
        return read(tokenizer, ids)
    return Said(str(tokenizer.decode(list(ids), skip_special_tokens=True)))


def reply(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of a completion, as `said` has it."""
    return said(tokenizer, ids).text
