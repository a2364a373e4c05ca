"""Values with units: durations in seconds, sizes in bytes, money in US dollars.

Invariant: whatever form the user wrote, the model holds one plain number (or `unlimited`), so that two
spellings of one value give one digest.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import PlainValidator, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_NUMBER = r"\d{1,15}(?:\.\d{1,9})?"
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_SIZE = re.compile(rf"({_NUMBER}) ?({'|'.join(_BYTES)})")
_MONEY = re.compile(rf"\$?({_NUMBER})")

DURATION_FORMS = "30m, 90s, 2h, 1h30m, or a plain number of seconds"
SIZE_FORMS = "2GiB, 512MB, or a plain number of bytes"
MONEY_FORMS = "$5, 5, 0.50 or unlimited"


def _refusal(found: object, what: str, forms: str) -> ValueError:
    shown = f'"{found}"' if isinstance(found, str) else "nothing" if found is None else str(found)
    return ValueError(f"found {shown}; expected {what} such as {forms}")


def _plain_number(value: object) -> float | None:
    """Return a finite number that is not a bool, else none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def parse_duration(value: object) -> float:
    """Return seconds, above zero. Raises ValueError that lists the accepted forms."""
    seconds = _plain_number(value)
    if isinstance(value, str) and _DURATION.fullmatch(value):
        parts = _DURATION_PART.findall(value)
        seconds = math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds is None or seconds <= 0:
        raise _refusal(value, "a duration above zero", DURATION_FORMS)
    return seconds


def parse_size(value: object) -> int:
    """Return bytes, a whole number above zero. Raises ValueError that lists the accepted forms."""
    size = _plain_number(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match:
        size = float(match[1]) * _BYTES[match[2]]
    if size is None or size < 1 or size != int(size):
        raise _refusal(value, "a size above zero", SIZE_FORMS)
    return int(size)


def parse_money(value: object) -> float | Literal["unlimited"]:
    """Return US dollars, zero or more, or `unlimited`. Raises ValueError that lists the accepted forms."""
    if value == "unlimited":
        return "unlimited"
    dollars = _plain_number(value)
    match = _MONEY.fullmatch(value) if isinstance(value, str) else None
    if match:
        dollars = float(match[1])
    if dollars is None or dollars < 0:
        raise _refusal(value, "dollars", MONEY_FORMS)
    return dollars


def _schema(number: dict[str, object], pattern: str, forms: str, examples: list[str]) -> dict[str, object]:
    text = {"type": "string", "pattern": f"^(?:{pattern})$"}
    return {"anyOf": [number, text], "x-forms": forms, "examples": examples}


Duration = Annotated[
    float,
    PlainValidator(parse_duration),
    WithJsonSchema(
        _schema({"type": "number", "exclusiveMinimum": 0}, _DURATION.pattern, DURATION_FORMS, ["30m", "90s"])
    ),
]
Size = Annotated[
    int,
    PlainValidator(parse_size),
    WithJsonSchema(_schema({"type": "integer", "minimum": 1}, _SIZE.pattern, SIZE_FORMS, ["2GiB", "512MB"])),
]
Money = Annotated[
    float | Literal["unlimited"],
    PlainValidator(parse_money),
    WithJsonSchema(
        _schema({"type": "number", "minimum": 0}, rf"{_MONEY.pattern}|unlimited", MONEY_FORMS, ["$5", "unlimited"])
    ),
]
