"""What a model or a candidate wrote, made fit to stand in Markdown.

Invariant: the output holds no HTML, no link, no image and no control character of the input, and is
bounded; a page that shows it loads nothing and runs nothing.
"""

from __future__ import annotations

import re

LIMIT = 8000
# Direction marks and zero-width characters too: they make text look other than it is.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
# An underscore within a word and a sign before a figure mean nothing to Markdown: they stay as they are.
_SPECIAL = re.compile(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w)|^#|^[+-](?=\s)|(?<=^\d)[.)](?=\s))")


def plain(text: str, limit: int = LIMIT) -> str:
    """Return one line that Markdown shows as it is written."""
    line = _bounded(" ".join(_clean(text).split()), limit)
    return _no_address(_SPECIAL.sub(r"\\\1", _no_html(line)))


def quoted(text: str, limit: int = LIMIT) -> str:
    """Return Markdown of others as a block quote: headings and lists stay, links, images and HTML do not."""
    body = _no_html(_bounded(_clean(text).strip(), limit))
    body = _no_address(body.replace("[", "\\[").replace("]", "\\]"))
    return "\n".join(f"> {line}".rstrip() for line in body.split("\n"))


def fenced(text: str, language: str = "", limit: int = LIMIT) -> str:
    """Return `text` as a code block, in a fence longer than any run of backticks in it."""
    body = _bounded(_clean(text).rstrip("\n"), limit)
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def _clean(text: str) -> str:
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\t", "    "))


def _no_html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _no_address(text: str) -> str:
    # Renderers turn bare addresses into links; an entity in them shows the same and links nothing.
    text = re.sub(r"(?i)\b(https?|ftp|mailto):", r"\1&#58;", text)
    return re.sub(r"(?i)\b(www)\.", r"\1&#46;", text)


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} [cut: {len(text):,} characters in all]"
