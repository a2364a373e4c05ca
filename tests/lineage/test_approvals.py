"""The questions of a run: asked again after a kill, answered once, whole after a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sia_flow.errors import SpecError, StoreError
from sia_flow.lineage.approvals import Approvals, Question, approvals_of

ASKED = Question("a" * 64, "W", 0, 2, "weights-grpo", "It promises most.", "the weights lever", ("weights",), 0.5)


@pytest.fixture
def book(tmp_path: Path) -> Approvals:
    return approvals_of(tmp_path, "small")


def test_an_answer_holds_for_its_question_and_stays(book: Approvals) -> None:
    assert book.questions() == []
    book.ask(ASKED)
    book.ask(replace(ASKED, id="b" * 64, seed=1))
    given = book.answer(ASKED.id, "yes", "fine")
    (held,) = [q for q in book.questions() if q.id == ASKED.id]
    assert (held.answer, held.levers, held.name) == (given, ("weights",), "W seed 0 gen 2")
    assert [q.id for q in book.waiting()] == ["b" * 64]
    assert book.settle(ASKED.id, "stop", "the clock") == given
    with pytest.raises(SpecError, match=r"was answered before: yes, by .*nothing to add"):
        book.answer(ASKED.id, "yes")
    with pytest.raises(SpecError, match=r"was answered before, by .*: yes. That stands; .*sia-flow stop"):
        book.answer(ASKED.id, "no")
    with pytest.raises(SpecError, match="nothing waits for an answer under cccc"):
        book.answer("c" * 64, "yes")


def test_a_question_that_is_asked_again_keeps_its_answer_and_an_older_one_is_overtaken(book: Approvals) -> None:
    book.ask(ASKED)
    book.answer(ASKED.id, "no")
    book.ask(ASKED)
    assert [q.answer.word for q in book.questions() if q.answer] == ["no"]
    book.ask(replace(ASKED, id="b" * 64))
    book.ask(replace(ASKED, id="c" * 64))
    assert [q.id[0] for q in book.waiting()] == ["c"]


def test_what_ended_by_the_clock_may_still_be_decided_by_a_person(book: Approvals) -> None:
    for word, name in (("stop", "a"), ("go", "b")):
        book.ask(replace(ASKED, id=name * 64))
        assert book.settle(name * 64, word, "nobody in time").word == word  # type: ignore[arg-type]
    assert book.answer("a" * 64, "yes").word == "yes"
    with pytest.raises(SpecError, match="went on by itself"):
        book.answer("b" * 64, "no")


def test_a_line_that_a_crash_cut_short_is_no_answer_and_swallows_none(book: Approvals) -> None:
    book.ask(ASKED)
    before = book.path.read_bytes()
    book.answer(ASKED.id, "no")
    whole = book.path.read_bytes()
    for cut in range(len(before), len(whole) - 1):
        book.path.write_bytes(whole[:cut])
        assert [q.answer for q in book.questions()] == [None], cut
        if cut % 20 == 0:
            assert book.answer(ASKED.id, "yes").word == "yes"
            assert [q.answer.word for q in book.questions() if q.answer] == ["yes"]
    book.path.write_bytes(b"[]\n3\n\xff\n" + whole)
    assert [q.answer.word for q in book.questions() if q.answer] == ["no"]


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "approvals").write_text("a file")
    with pytest.raises(StoreError, match="nothing was asked or answered"):
        approvals_of(tmp_path, "small").ask(ASKED)
