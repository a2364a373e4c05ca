"""The tiny policy's tokenizer: usual program lines and numbers, or characters, are single tokens, all else is bytes.

Invariant: any text encodes, and decodes back to itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import Sequence
    from transformers import PreTrainedTokenizerFast

Kind = Literal["pieces", "characters"]

SPECIALS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "<|bos|>{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|eos|>"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

NUMBER = r"(?<![A-Za-z0-9_])[0-9]+(?:\.[0-9]+)?\n?"
"""A number with the end of line that may follow it; digits inside a name, as in log1p, belong to the name."""
TEXT = r"(?:[^0-9\n]|(?<=[A-Za-z0-9_])[0-9])+\n?|\n"
"""What stands between numbers, up to and with the end of the line."""
PATTERNS: Mapping[Kind, str] = {"pieces": f"{NUMBER}|{TEXT}", "characters": r"[\s\S]"}


def build_tokenizer(
    texts: Iterable[str], pieces: int, min_count: int = 3, kind: Kind = "pieces"
) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose vocabulary is the specials, 256 bytes and the commonest pieces of `texts`.

    A piece is a number or the text between two numbers of one line, or with `characters` one character. At most
    `pieces` of them become tokens, each seen at least `min_count` times; ties go by the text, so that equal corpora
    give equal vocabularies.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    splitter = _splitter(PATTERNS[kind])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    counts = Counter(piece for text in texts for piece, _ in splitter.pre_tokenize_str(text))
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
    frequent = [piece for piece in ranked if counts[piece] >= min_count and len(piece) > 1][:pieces]
    vocabulary = {token: i for i, token in enumerate((*SPECIALS, *alphabet, *frequent))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return _wrapped(tokenizer)


def _splitter(pattern: str) -> Sequence:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    pad, bos, eos, *roles = SPECIALS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        additional_special_tokens=roles,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
