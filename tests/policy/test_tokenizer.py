"""The tokenizer is complete, and short on the language that it was made for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.policy.prompts import render, reply
from sia_flow.policy.tokenizer import SPECIALS, build_tokenizer

LINES = ["def denoise(counts, seed):\n    x = np.log1p(x)\n    y = kit.power(y, 0.25)\n    return y\n"] * 5
TOKENIZER = build_tokenizer(LINES, pieces=32)


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_survives(text: str) -> None:
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert TOKENIZER.decode(ids(text)) == text


@pytest.mark.parametrize(
    "text", [" a", "a\r\n\tb", "0.5", "1.", ".5\n", "x1 = 2\n\n\n", "é\u2028漢\0", "def  f :", " ' n't"]
)
def test_awkward_text_survives(text: str) -> None:
    assert TOKENIZER.decode(ids(text)) == text


def test_a_usual_line_is_one_token_and_a_number_another() -> None:
    assert TOKENIZER.convert_ids_to_tokens(ids("    x = np.log1p(x)\n    return y\n")) == [
        "ĠĠĠĠxĠ=Ġnp.log1p(x)Ċ",
        "ĠĠĠĠreturnĠyĊ",
    ]
    assert len(ids("    y = kit.power(y, 0.25)\n")) == 3


def test_vocabulary_is_specials_bytes_and_frequent_pieces() -> None:
    small = build_tokenizer(LINES, pieces=2)
    assert len(small) == len(SPECIALS) + 256 + 2
    assert len(build_tokenizer(["rare\n", "rare\n"], pieces=9, min_count=3)) == len(SPECIALS) + 256
    assert build_tokenizer(LINES, 32).get_vocab() == TOKENIZER.get_vocab()


def test_chat_template() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert TOKENIZER.decode(render(TOKENIZER, messages, 99)) == "<|bos|><|user|>Hi<|assistant|>"
    messages += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "no"}]
    text = TOKENIZER.decode(render(TOKENIZER, messages, 99))
    assert text == "<|bos|><|user|>Hi<|assistant|>yes<|eos|><|user|>no<|assistant|>"


def test_of_a_long_prompt_the_end_is_kept() -> None:
    messages = [{"role": "user", "content": "abcdef"}]
    assert TOKENIZER.decode(render(TOKENIZER, messages, 3)) == "ef<|assistant|>"


def test_reply_leaves_special_tokens_out() -> None:
    assert reply(TOKENIZER, [*ids("return y\n"), TOKENIZER.eos_token_id]) == "return y\n"


def test_reply_of_harmony_is_the_last_message() -> None:
    tokenizer = build_tokenizer(LINES, pieces=32)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|channel|>", "<|message|>", "<|end|>"]})
    text = "<|channel|>analysis<|message|>hm<|end|><|channel|>final<|message|>return y\n<|end|>"
    assert reply(tokenizer, tokenizer.encode(text, add_special_tokens=False)) == "return y\n"
    assert reply(tokenizer, [7, 8]) == tokenizer.decode([7, 8])
