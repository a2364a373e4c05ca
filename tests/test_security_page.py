"""The page says which test shows what: each of those tests is there, and no attack of the list is left out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/security.md").read_text()
ATTACKS = [*range(1, 14), *range(20, 37), *range(40, 47), *range(50, 56), *range(60, 66)]


def test_every_attack_stands_in_the_table_once_with_a_test_or_a_reason() -> None:
    rows = re.findall(r"^\| T(\d\d) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == ATTACKS
    for number, shown in rows:
        assert "`test_" in shown or "does not apply: " in shown or "probes" in shown, number


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 50
    assert named <= there, named - there
