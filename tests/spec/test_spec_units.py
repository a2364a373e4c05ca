"""Units: every accepted form gives one plain number; everything else is refused with the forms."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.spec.schema import schema_at
from sia_flow.spec.units import parse_duration, parse_money, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("90s", 90),
        ("2h", 7200),
        ("1h30m", 5400),
        ("0.5h", 1800),
        ("250ms", 0.25),
        ("1d", 86400),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert isinstance(parse_duration(text), float)


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2 << 30), ("512MB", 512_000_000), ("0.5 KiB", 512), ("7B", 7), (1024, 1024)]
)
def test_sizes_are_bytes(text: str | int, size: int) -> None:
    assert parse_size(text) == size
    assert isinstance(parse_size(text), int)


@pytest.mark.parametrize(("text", "usd"), [("$5", 5), ("5", 5), (5, 5), ("0.50", 0.5), (0, 0)])
def test_money_is_dollars(text: str | int, usd: float) -> None:
    assert parse_money(text) == usd


def test_unlimited_money_is_a_word_of_its_own() -> None:
    assert parse_money("unlimited") == "unlimited"


@pytest.mark.parametrize(
    "value",
    ["10 parsecs", "", "-5s", "5", "m", "1.5", 0, -1, True, None, [], float("inf"), float("nan"), "1e3s"],
)
def test_what_is_no_duration_is_refused_with_the_forms(value: object) -> None:
    with pytest.raises(ValueError, match="30m, 90s"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["2gib", "1.5", 0, 0.5, "0B", True, None, "0.3B", float("inf")])
def test_what_is_no_size_is_refused_with_the_forms(value: object) -> None:
    with pytest.raises(ValueError, match="2GiB, 512MB"):
        parse_size(value)


@pytest.mark.parametrize("value", ["5 EUR", -1, True, None, "Unlimited", float("nan"), "$"])
def test_what_is_no_money_is_refused_with_the_forms(value: object) -> None:
    with pytest.raises(ValueError, match="unlimited"):
        parse_money(value)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["s", "m", "h", "d", "ms"])), max_size=3))
def test_schema_pattern_accepts_what_the_parser_accepts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    schema = schema_at(("spec", "sandbox", "wall"))
    assert schema is not None
    shaped = re.search(schema["anyOf"][1]["pattern"], text) is not None
    try:
        parse_duration(text)
    except ValueError:
        assert not shaped or not any(number for number, _ in parts)
    else:
        assert shaped
