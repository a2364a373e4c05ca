"""The tokenizer of a base that reads characters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from sia_flow.policy.tokenizer import build_tokenizer

TEXTS = ["盗窃财物12\n", "盗窃他人财物\n", "盗窃财物\n"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(TEXTS, 100, kind="characters")


def test_common_characters_are_one_token_each_and_others_are_bytes(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer.encode("盗窃财物", add_special_tokens=False)) == 4
    assert len(tokenizer.encode("他", add_special_tokens=False)) == 3, "seen once: its UTF-8 bytes"
    assert len(tokenizer.encode("1a\n", add_special_tokens=False)) == 3


def test_pieces_keep_whole_lines(tokenizer: PreTrainedTokenizerFast) -> None:
    lines = build_tokenizer(["盗窃\n"] * 3, 100)
    assert len(lines.encode("盗窃\n", add_special_tokens=False)) == 1
    assert len(tokenizer.encode("盗窃\n", add_special_tokens=False)) == 3


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
