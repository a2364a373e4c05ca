"""From messages to prompt tokens by the checkpoint's own chat template, and from tokens back to the reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHANNEL, MESSAGE = "<|channel|>", "<|message|>"
"""Marks of the Harmony format of gpt-oss: a reply is a row of channels, the last of which is for the user."""


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], room: int) -> tuple[int, ...]:
    """Return the prompt's token ids, at most `room` of them: of a longer prompt the end is kept."""
    ids = tokenizer.apply_chat_template(
        [dict(message) for message in messages], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return tuple(int(token) for token in ids[-max(room, 1) :])


def reply(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of a completion without special tokens; of a Harmony completion, its last message."""
    return str(tokenizer.decode(final_message(tokenizer, ids), skip_special_tokens=True))


def final_message(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """Return the tokens after the last message mark, or all of them where the vocabulary has no channels."""
    vocabulary = tokenizer.get_added_vocab()
    mark = vocabulary.get(MESSAGE)
    tokens = list(ids)
    if CHANNEL not in vocabulary or mark not in tokens:
        return tokens
    return tokens[len(tokens) - tokens[::-1].index(mark) :]
