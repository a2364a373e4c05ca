"""The Harmony format of gpt-oss: a reply is a row of messages in channels, some for the user, some for tools.

Facts (github.com/openai/harmony): a message is a header, `<|message|>`, a content and an end mark. The header names the
channel (`analysis`, `commentary`, `final`) and, of a tool call, the recipient (`to=functions.NAME`). `<|call|>` ends a
call and `<|return|>` a whole reply; both stop the model.

Invariant: marks are told from text by their token ids, so that no content can pass for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sia_flow.protocols import Called

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHANNEL, MESSAGE = "<|channel|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
_CHANNEL = re.compile(r"<\|channel\|>(\w+)")
_RECIPIENT = re.compile(r"to=functions\.([\w-]+)")


class Message(NamedTuple):
    """One message of a reply."""

    channel: str
    recipient: str | None
    """The tool that it calls."""
    content: tuple[int, ...]
    whole: bool
    """Whether it has its end mark."""


class Said(NamedTuple):
    """What a completion says: a text for the user, and calls of tools."""

    text: str
    calls: tuple[Called, ...] = ()


def speaks_harmony(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether a vocabulary has the marks of the format."""
    return {CHANNEL, MESSAGE} <= set(tokenizer.get_added_vocab())


def read(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Said:
    """Return what a completion says to the user and to tools; what the model told itself is left out.

    The text is the last message of the channel `final`; without one, the last of `commentary` to nobody in particular.
    A completion that was cut off while it still reasoned says nothing. A call that was cut off is none. Where no mark
    is sampled, the prompt has ended within the message, and all of it is the text.
    """
    vocabulary = tokenizer.get_added_vocab()
    if not {vocabulary[CHANNEL], vocabulary[MESSAGE]} & set(ids):
        return Said(_text(tokenizer, ids))
    found = list(messages(tokenizer, ids))
    for_user = [m for m in found if m.recipient is None and m.channel == "final"]
    for_user = for_user or [m for m in found if m.recipient is None and m.channel == "commentary"]
    calls = tuple(Called(m.recipient, _text(tokenizer, m.content)) for m in found if m.recipient and m.whole)
    return Said(_text(tokenizer, for_user[-1].content) if for_user else "", calls)


def messages(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Iterator[Message]:
    """Yield the messages of a completion, which begins inside the header of its first one."""
    vocabulary = tokenizer.get_added_vocab()
    mark, ends = vocabulary[MESSAGE], {vocabulary[name] for name in ENDS if name in vocabulary}
    header: list[int] = []
    content: list[int] | None = None
    for token in ids:
        if content is None and token != mark:
            header.append(token)
        elif content is None:
            content = []
        elif token in ends:
            yield _message(tokenizer, header, content, whole=True)
            header, content = [], None
        else:
            content.append(token)
    if content is not None:
        yield _message(tokenizer, header, content, whole=False)


def _message(tokenizer: PreTrainedTokenizerBase, header: list[int], content: list[int], *, whole: bool) -> Message:
    words = str(tokenizer.decode(header, skip_special_tokens=False))
    channel, recipient = _CHANNEL.search(words), _RECIPIENT.search(words)
    return Message(channel[1] if channel else "final", recipient and recipient[1], tuple(content), whole)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))
