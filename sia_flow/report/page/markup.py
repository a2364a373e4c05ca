"""HTML made of escaped text.

Invariant: whatever stands in a record, only the tags that are written here reach the page: every text and every
attribute passes through `text`, and control characters do not pass at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Html(str):
    """Markup that was made here and is not escaped again."""

    __slots__ = ()


Content = str | float | None


def text(value: Content, limit: int | None = None) -> Html:
    """Return a value as escaped text; what is markup already stays as it is. `limit` cuts it, and says so."""
    if isinstance(value, Html):
        return value
    found = "" if value is None else str(value)
    if limit is not None and len(found) > limit:
        found = f"{found[:limit]} [cut: {len(found):,} characters in all]"
    found = found.encode("utf-8", "replace").decode("utf-8")
    return Html(escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", found.replace("\r\n", "\n"))))


def tag(name: str, *content: Content, **attributes: Content) -> Html:
    """Return an element; a trailing underscore of an attribute's name is dropped, others become hyphens."""
    inner = "".join(text(item) for item in content)
    return Html(f"<{name}{_attributes(attributes)}>{inner}</{name}>")


def empty(name: str, **attributes: Content) -> Html:
    """Return an element of SVG without content."""
    return Html(f"<{name}{_attributes(attributes)}/>")


def join(parts: Iterable[Content], between: str = "") -> Html:
    """Return the parts one after the other."""
    return Html(text(between).join(text(part) for part in parts))


def pre(content: str, limit: int, kind: str = "code") -> Html:
    """Return preformatted text that scrolls and can be reached by the keyboard."""
    return tag("pre", tag("code", text(content, limit)), class_=kind, tabindex="0")


def table(caption: str, rows: Sequence[dict[str, Content]]) -> Html:
    """Return a table; the first column holds the rows' names."""
    if not rows:
        return Html("")
    names = list(rows[0])
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    lines = []
    for row in rows:
        first, *others = (row[name] for name in names)
        lines.append(tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in others)))
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *lines))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _attributes(attributes: dict[str, Content]) -> str:
    found = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None)
    return "".join(f' {name}="{text(value)}"' for name, value in found)
