"""One set of books that several processes write to: together they pass no cap, and each keeps its own open calls."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from sia_flow.errors import BudgetSpentError
from sia_flow.providers.answers import Answers
from sia_flow.providers.caps import Caps
from sia_flow.providers.journal import Account, Journal, totals
from sia_flow.providers.metering import Meter, close_open
from sia_flow.spec.loop import Budget
from tests.providers.books import entry

CAP = 10.0


def spend(root: Path, number: int) -> None:
    """Reserve and settle calls of a dollar until the cap is reached; the last one stays open."""
    books = Meter(
        Journal(root / "spend.jsonl"),
        Answers(root / "answers"),
        Caps(Budget(total=CAP)),
        lambda _: None,
        alone=False,
    )
    account = Account(f"arm {number}", 0, "feedback")
    while True:
        try:
            held = books._admit(entry(1.0, account=account, call=f"{number:064x}"))
        except BudgetSpentError:
            return
        books.journal.settle(held, 0.5, 10)


def test_processes_together_pass_no_cap(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=spend, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    entries = Journal(tmp_path / "spend.jsonl").entries()
    assert len({one.id for one in entries}) == len(entries)
    assert {one.state for one in entries} == {"settled"}
    # A dollar has to be free for the next call; half of it is what a call costs in the end.
    assert CAP - 1 < totals(entries)[0] <= CAP
    used = 0.0
    for one in Journal(tmp_path / "spend.jsonl").entries():
        used += one.usd
        assert used <= CAP


def test_a_journal_sees_what_another_process_wrote_before_it_reserves(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "spend.jsonl"), Journal(tmp_path / "spend.jsonl")
    held = first.reserve(entry(3.0))
    with second.exclusive():
        assert totals(second.entries())[0] == 3.0
    first.settle(held, 1.0, 5)
    second.reserve(entry(2.0))
    assert totals(second.entries())[0] == pytest.approx(3.0)
    assert totals(Journal(tmp_path / "spend.jsonl").entries())[0] == pytest.approx(3.0)


def test_only_the_open_calls_of_the_dead_are_closed(tmp_path: Path) -> None:
    path, fork = tmp_path / "spend.jsonl", multiprocessing.get_context("fork")
    dead = fork.Process(target=lambda: Journal(path).reserve(entry(2.0, call="d" * 64)))
    dead.start()
    dead.join()
    mine = Journal(path)
    mine.reserve(entry(1.0))
    Meter(Journal(path), Answers(tmp_path), Caps(Budget()), lambda _: None, alone=False)
    assert len(Journal(path).open_entries()) == 2
    close_open(Journal(path), Answers(tmp_path), f"{socket.gethostname()}:{dead.pid}")
    (left,) = Journal(path).open_entries()
    assert left.writer == f"{socket.gethostname()}:{os.getpid()}"
    assert totals(Journal(path).entries())[0] == 3.0
