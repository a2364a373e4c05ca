"""A tokenizer that speaks Harmony, and a function to offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trl

from sia_flow.policy.tokenizer import build_tokenizer

MARKS = [f"<|{name}|>" for name in ("start", "channel", "message", "constrain", "end", "call", "return")]
TEMPLATE = Path(trl.__file__).parent / "chat_templates/gptoss.jinja"
"""The template that gpt-oss was published with, as another library keeps it."""
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at a row.",
        "parameters": {"type": "object", "properties": {"row": {"type": "integer"}}, "required": ["row"]},
    },
}


def speaking() -> Any:
    """Return a tokenizer of bytes and the format's marks, with the published template."""
    found = build_tokenizer(["How many?\n"] * 5, pieces=32)
    found.add_special_tokens({"additional_special_tokens": MARKS})
    found.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return found


def ids(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text, marks as marks."""
    return list(tokenizer.encode(text, add_special_tokens=False))
