"""JSON from a hostile writer: bounded before it is parsed, and with nothing in it that two readers take
differently.

Invariant: what comes back holds finite numbers, unique keys and valid Unicode, and parsing costs no more than
its caps.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple


class HostileJsonError(ValueError):
    """The bytes are not JSON that may be read; the message says why, without quoting them."""


class Caps(NamedTuple):
    """How much JSON is read."""

    size: int = 256 << 10
    depth: int = 16
    nodes: int = 20_000
    digits: int = 20
    """Of one integer."""


def parse(data: bytes, caps: Caps | None = None) -> Any:
    """Return the value of `data`. Raises HostileJsonError."""
    caps = caps or Caps()
    if len(data) > caps.size:
        raise HostileJsonError(f"more than {caps.size} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HostileJsonError("not UTF-8") from error
    _measure(text, caps)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=lambda text: _integer(text, caps.digits),
            parse_float=_finite,
            parse_constant=_constant,
        )
        _refuse_surrogates(text)
    except HostileJsonError:
        raise
    except ValueError as error:
        raise HostileJsonError("not JSON") from error
    return value


def _measure(text: str, caps: Caps) -> None:
    """Count depth and nodes in one pass, before the real parser allocates anything."""
    # What is outside of strings: an escaped quote never ends one, so both escapes go first.
    bare = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    depth = nodes = 0
    for part in bare:
        nodes += part.count(",")
        for char in part:
            if char in "[{":
                depth += 1
                nodes += 1
            elif char in "]}":
                depth -= 1
            if depth > caps.depth:
                raise HostileJsonError(f"deeper than {caps.depth}")
        if nodes > caps.nodes:
            raise HostileJsonError(f"more than {caps.nodes} nodes")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise HostileJsonError("a key occurs twice")
    return value


def _integer(text: str, digits: int) -> int:
    if len(text) > digits:
        raise HostileJsonError("an integer is too long")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise HostileJsonError("a number is not finite")
    return value


def _constant(text: str) -> float:
    raise HostileJsonError(f"{text} is not JSON")


def _refuse_surrogates(text: str) -> None:
    """Refuse escapes that decode to half a character, which cannot be written as UTF-8 again."""
    if "\\u" not in text and "\\U" not in text:
        return
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise HostileJsonError("a lone surrogate") from error
