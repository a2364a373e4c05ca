"""The strict form of an answer."""

from __future__ import annotations

import pytest

from tasks.lawbench.scoring import Fault, accuracy, parse

IDS = ("a-0", "a-1", "a-2")
CLASSES = ("theft", "robbery", "[making, selling]drugs")


def test_answers_are_read_with_or_without_a_header_and_quotes_keep_commas() -> None:
    expected = {"a-0": "theft", "a-1": "[making, selling]drugs"}
    body = 'a-0,theft\na-1,"[making, selling]drugs"\n'
    assert parse(body, IDS, CLASSES) == expected
    assert parse(f"id,label\n{body}\n", IDS, CLASSES) == expected


@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        ("", "empty", "one line"),
        (" \n\n", "empty", "one line"),
        ("id,label\n", "empty", "no case"),
        ("a-0,theft\na-0,theft", "duplicate_id", "line 2"),
        ("a-9,theft", "unknown_id", "'a-9'"),
        ("a-0,murder", "unknown_label", "none of the 3"),
        ("a-0,", "unknown_label", "none of the 3"),
        ("a-0,[making, selling]drugs", "bad_line", "3 columns"),
        ("theft", "bad_line", "1 columns"),
        ('a-0,"theft', "bad_line", "no CSV"),
        ("a-0,theft\n" * 10_001, "too_long", "10000 lines"),
        ("id,label\nid,label\n", "unknown_id", "'id'"),
    ],
)
def test_what_is_refused_has_a_reason_and_says_where(answer: str, reason: str, says: str) -> None:
    found = parse(answer, IDS, CLASSES)
    assert isinstance(found, Fault)
    assert found.reason == reason
    assert says in found.feedback


def test_a_missing_case_is_wrong() -> None:
    truth = dict(zip(IDS, CLASSES, strict=True))
    assert accuracy({"a-0": "theft"}, truth) == pytest.approx(1 / 3)
    assert accuracy({}, truth) == 0.0


def test_naming_every_charge_for_a_case_does_not_pay() -> None:
    # The published evaluator joins on the id and so counts the line that is right.
    flood = "".join(f"a-0,{label}\n" for label in ("theft", "robbery"))
    assert parse(flood, IDS, CLASSES) == Fault("duplicate_id", "line 2: case 'a-0' was answered already")
