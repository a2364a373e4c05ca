"""Markdown reports, with text that tries to get out of them."""

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from sia_flow.lineage.records import Decision, Edit, Generation, Trial
from sia_flow.lineage.results import ArmResult
from sia_flow.report.markdown import comparison_report, decision_report, table
from sia_flow.report.text import fenced, plain, quoted
from tests.report.conftest import make_score

HOSTILE = "<img src=x onerror=alert(1)> ![a](http://evil/x.png) [b](javascript:alert(1))\n# Accepted\n```\n| a |"


def test_a_report_tells_decision_forecast_and_outcome(generation: Callable[..., Generation]) -> None:
    made = generation(2, 0.2, weights=True, gain=0.03, gain_se=0.01, accepted=False)
    text = decision_report("SIA-W+H", made)
    assert text.startswith("# SIA-W+H, seed 0, generation 2: not kept\n")
    assert "## Decision: weights" in text
    assert "grpo, 8 iterations, learning rate 0.001" in text
    assert "Forecast gain +0.0200; outcome +0.0300 ± 0.0100." in text
    assert "| select | 0.2100 ± 0.0100 |" in text
    assert "| kl_base | 0 | 2.1 |" in text
    assert "256 rollouts, 1,024 prompt tokens" in text
    assert "level 2, bubblewrap" in text


def test_the_first_generation_has_no_decision(generation: Callable[..., Generation]) -> None:
    assert "Meta-Agent's first scaffold" in decision_report("SIA-H", generation(0, 0.1))


def test_trials_show_which_edit_was_taken(generation: Callable[..., Generation]) -> None:
    trials = tuple(Trial(name=f"KNN {k}", constants={}, mean=0.1, se=0.01, n=32, chosen=k == 7) for k in (5, 7))
    text = decision_report("SIA-H", generation(1, 0.2, trials=trials))
    assert "| KNN 7 | 0.1000 ± 0.0100 | 32 | yes |" in text


def test_hostile_text_stays_text(generation: Callable[..., Generation]) -> None:
    edit = Edit(kind="files", name=HOSTILE, summary=HOSTILE, files={})
    decision = Decision(lever="harness", reason=HOSTILE, forecast=0.0, report=HOSTILE, edits=(edit,))
    text = decision_report("SIA-H", generation(1, 0.2, decision=decision, verdict=HOSTILE), diff=HOSTILE)
    outside = text.split("## Scaffold diff")[0] + text.split("````\n")[-1]
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert "http:" not in outside
    assert "\n# Accepted" not in outside


@given(st.text())
def test_plain_text_is_one_harmless_line(text: str) -> None:
    line = plain(text)
    assert "\n" not in line
    assert not re.search(r"[<>]", line)
    assert not re.search(r"(?<!\\)(\\\\)*[\[\]|`*]", line)


@given(st.text())
def test_a_quotation_never_ends_early(text: str) -> None:
    body = quoted(text)
    assert all(line.startswith(">") for line in body.split("\n"))
    assert "<" not in body


@given(st.text(alphabet="`a\n "))
def test_a_fence_is_longer_than_any_in_its_text(text: str) -> None:
    first, *body, last = fenced(text).split("\n")
    assert first == last == "`" * len(first)
    assert not any(first in line for line in body)


def test_long_text_is_cut_and_says_so() -> None:
    assert plain("x" * 100, limit=10) == r"xxxxxxxxxx \[cut: 100 characters in all\]"


def test_ordinary_words_are_left_as_they_are() -> None:
    text = "SIA-W+H: best_of_n gained +0.02 (1.5 SE), KNN 5 -&gt; 7"
    assert plain("SIA-W+H: best_of_n gained +0.02 (1.5 SE), KNN 5 -> 7") == text


def test_the_comparison_holds_table_and_verdicts(result: Callable[..., ArmResult]) -> None:
    text = comparison_report([result("SIA-H", 0, 0.2), result("SIA-W+H", 0, 0.3)])
    assert text.splitlines()[0].startswith("| agent | select | sealed |")
    assert "- SIA-W+H is better than SIA-H on sealed: +0.1000" in text
    assert "on select" in text
    assert "is better" not in comparison_report([result("SIA-H", 0, 0.2)])


def test_a_cell_cannot_break_its_table() -> None:
    lines = table([{"a": "x | y", "b": "1\n2"}]).splitlines()
    assert len(lines) == 3
    assert lines[2] == r"| x \| y | 1 2 |"


def test_the_goodhart_gap_is_told_with_its_alarm(
    generation: Callable[..., Generation], result: Callable[..., ArmResult]
) -> None:
    first = generation(0, 0.05)
    calm = decision_report("SIA-H", generation(1, 0.06), first=first)
    assert "## Goodhart gap" in calm
    assert "beyond 2 standard errors" in calm
    assert "Alarm" not in calm
    loud = decision_report("SIA-H", generation(1, 0.05, train=make_score("train", 0.5)), first=first)
    assert "**Alarm**: train has run away from select" in loud
    assert "Goodhart" not in decision_report("SIA-H", first, first=first)
    said = comparison_report([result("SIA-H", 0, 0.3, select=make_score("select", 0.6))])
    assert "select promised more than sealed keeps" in said
    assert "promised" not in comparison_report([result("SIA-H", 0, 0.3)])
