"""Long results in pages, of one size and in one order, so that the same call gives the same text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from sia_flow.agents.language.toolbox import LIMIT

PAGE = 20
"""Lines of a page."""

Page = Annotated[int, Field(ge=0, le=100_000)]


def paged(lines: Sequence[str], page: int) -> str:
    """Return one page of lines, with how many there are."""
    shown = lines[page * PAGE : (page + 1) * PAGE]
    pages = max(1, -(-len(lines) // PAGE))
    return "\n".join([f"{len(lines)} in all; page {page} of 0 to {pages - 1}", *shown])


def cut_from(text: str, offset: int) -> str:
    """Return a text from a character on, as much as one result holds, with how much is left."""
    rest = text[offset : offset + LIMIT - 200]
    left = len(text) - offset - len(rest)
    return f"{rest}\n[{left} more characters from offset {offset + len(rest)}]" if left > 0 else rest
