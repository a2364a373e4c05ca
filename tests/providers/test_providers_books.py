"""The books: what is reserved counts, what is settled stays, what was paid for is never asked again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.dialogue import Usage
from sia_flow.errors import BudgetSpentError, SpecError, StoreError
from sia_flow.providers.caps import Caps
from sia_flow.providers.faults import RefusedRequestError, UnansweredError
from sia_flow.providers.journal import Account, Journal, totals
from sia_flow.providers.metering import MeteredTalker
from sia_flow.providers.prices import TABLE, demand_price, rate_of
from sia_flow.spec.loop import Budget
from tests.providers.books import ME, MODEL, ask, entry, meter, model
from tests.providers.wire import Fault, Say

COST = (100 * 2.0 + 20 * 10.0) / 1e6
"""Of the server's usual answer, at the table's price."""


def test_a_call_is_paid_once_and_replayed_for_nothing(tmp_path: Path, serve) -> None:
    wire = serve([Say("first"), Say("second")])
    first = meter(tmp_path, usd=1.0).ask(model(wire), ME, ask("a"), 0)
    again = meter(tmp_path, usd=1.0).ask(model(wire), ME, ask("a"), 0)
    assert first == again
    assert (first.reply.text, first.usd, first.tokens) == ("first", pytest.approx(COST), 120)
    assert meter(tmp_path, usd=1.0).ask(model(wire), ME, ask("a"), 1).reply.text == "second"
    assert [e.state for e in Journal(tmp_path / "spend.jsonl").entries()] == ["settled", "settled"]
    assert len(wire.requests) == 2


def test_where_and_by_which_key_a_model_is_reached_makes_no_other_call(tmp_path: Path, serve) -> None:
    one, two = serve([Say("one")]), serve([Say("two")])
    books = meter(tmp_path, usd=1.0)
    assert books.ask(model(one), ME, ask("a"), 0) == books.ask(model(two, cache=False, stream=False), ME, ask("a"), 0)
    assert books.ask(model(two, effort="low"), ME, ask("a"), 0).reply.text == "two"


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        ({"usd": 0.011}, "budget.usd"),
        ({"usd": "unlimited", "total": 0.011}, "budget.total"),
        ({"total": 0.011}, "budget.total"),
        ({"usd": 1.0, "roles": {"feedback": {"usd": 0.011}}}, "budget.roles.feedback.usd"),
        ({"usd": 1.0, "roles": {"feedback": {"tokens": 2000}}}, "budget.roles.feedback.tokens"),
    ],
)
def test_a_call_that_might_pass_a_cap_is_not_made(tmp_path: Path, serve, budget: dict[str, Any], limit: str) -> None:
    wire = serve([Say("x")])
    books = meter(tmp_path, **budget)
    with pytest.raises(BudgetSpentError, match=rf"spec\.{limit}: .* raise the cap to go on") as caught:
        books.ask(model(wire), ME, ask("a"), 0)
    assert caught.value.limit == limit
    assert (wire.requests, books.journal.entries()) == ([], [])


def test_a_tight_cap_asks_the_provider_to_count(tmp_path: Path, serve) -> None:
    """Bytes bound tokens, but four times too high: a prompt that fits by the provider's count is asked."""
    wire = serve([Say("x")])
    words = "word " * 4000
    with pytest.raises(BudgetSpentError):
        meter(tmp_path, usd=0.05).ask(model(wire, type="openai"), ME, ask(words), 0)
    answer = meter(tmp_path, usd=0.05).ask(model(wire), ME, ask(words), 0)
    assert (answer.reply.text, wire.counts) == ("x", 1)


def test_what_a_seed_shares_counts_against_each_of_its_arms() -> None:
    caps = Caps(Budget.model_validate({"usd": 1.0}))
    shared, one, two, other = (Account(arm, seed, "meta") for arm, seed in ((None, 0), ("A", 0), ("B", 0), ("A", 1)))
    books = [entry(0.4, account=shared), entry(0.5, account=one)]
    caps.admit(books, entry(0.6, account=two))
    caps.admit(books, entry(1.0, account=other))
    for account in (one, shared):
        with pytest.raises(BudgetSpentError):
            caps.admit(books, entry(0.11, account=account))


def test_soft_limits_are_told_once(tmp_path: Path, serve) -> None:
    wire = serve([Say("x", usage=(0, 600, 0, 0))])
    told: list[str] = []
    books = meter(tmp_path, told, usd=0.03)
    for number in range(3):
        books.ask(model(wire), ME, ask(str(number)), 0)
    assert told == ["50% of spec.budget.usd is used: $0.0180 of $0.0300"]
    with pytest.raises(BudgetSpentError):
        books.ask(model(wire), ME, ask("3"), 0)
    meter(tmp_path, told, usd=0.029).ask(model(wire, max_tokens=256), ME, ask("4"), 0)
    assert told[1:] == ["80% of spec.budget.usd is used: $0.0240 of $0.0290"]


@pytest.mark.parametrize(
    ("fault", "kind", "states"),
    [
        (Fault(529), UnansweredError, []),
        (Fault(400), RefusedRequestError, []),
        (Fault(cut_after=3), UnansweredError, ["lost"]),
    ],
)
def test_a_failed_call_costs_nothing_or_all_that_was_reserved(tmp_path: Path, serve, fault, kind, states) -> None:
    books = meter(tmp_path, usd=1.0)
    with pytest.raises(kind):
        books.ask(model(serve([fault])), ME, ask("a"), 0)
    found = books.journal.entries()
    assert [e.state for e in found] == states
    assert all(e.usd > COST for e in found)


def test_no_usage_costs_what_was_reserved_and_no_stream_reserves_every_try(tmp_path: Path, serve) -> None:
    wire = serve([Say("x", usage=None)])
    books = meter(tmp_path, usd=1.0)
    streamed = books.ask(model(wire, type="openai"), ME, ask("a"), 0)
    whole = books.ask(model(wire, type="openai", stream=False, retries=2), ME, ask("a"), 1)
    assert streamed.usd > COST
    assert whole.usd == pytest.approx(3 * streamed.usd)


def test_a_model_without_a_price_is_never_free(tmp_path: Path, serve) -> None:
    wire = serve([Say("x")])
    with pytest.raises(SpecError, match=r"price of mine is not known .* budget: \{prices: \{mine:"):
        meter(tmp_path, usd=1.0).ask(model(wire, "mine"), ME, ask("a"), 0)
    with pytest.raises(SpecError, match=r"nothing may cost money: set budget\.usd"):
        meter(tmp_path).ask(model(wire), ME, ask("a"), 0)
    assert wire.requests == []
    assert not meter(tmp_path, usd="unlimited").ask(model(wire, "mine"), ME, ask("a"), 0).priced
    free = {"mine": {"input": 0.0, "output": 0.0}}
    assert meter(tmp_path, prices=free).ask(model(wire, "mine"), ME, ask("b"), 0).usd == 0.0


def test_prices_are_the_spec_s_before_the_table_s() -> None:
    usage = Usage(input=1_000_000, output=1_000_000, cache_read=1_000_000, cache_write=1_000_000)
    table = demand_price(MODEL, {}, 5.0)
    assert table is not None
    assert table.usd(usage) == pytest.approx(2 + 10 + 0.10 + 2.5)
    stated = Budget.model_validate({"prices": {MODEL: {"input": 1.0, "output": 2.0}}}).prices
    own = rate_of(MODEL, stated)
    assert own is not None
    assert own.usd(usage) == pytest.approx(1 + 2 + 1 + 1.25)
    assert all(rate.bound(1, 1) > 0 for rate in TABLE.values())


def test_a_talk_knows_its_bill(tmp_path: Path, serve) -> None:
    talker = MeteredTalker(meter(tmp_path, usd=1.0), model(serve([Say("x")])), ME, "s")
    for words in ("a", "b"):
        talker.ask(ask(words))
    assert (talker.bill.calls, talker.bill.tokens) == (2, 240)
    assert talker.bill.usd == pytest.approx(2 * COST)


def test_books_cut_at_any_byte_forget_nothing_that_was_settled(tmp_path: Path) -> None:
    path = tmp_path / "spend.jsonl"
    journal = Journal(path)
    settled = 0.0
    marks = [(0, 0.0)]
    for number in range(2):
        reserved = journal.reserve(entry(1.0 + number))
        marks.append((path.stat().st_size, settled + reserved.usd))
        journal.settle(reserved, 0.25, 5)
        settled += 0.25
        marks.append((path.stat().st_size, settled))
    data = path.read_bytes()
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = [usd for size, usd in marks if size <= cut or (size == cut + 1)]
        found = Journal(path)
        assert totals(found.entries())[0] == pytest.approx(whole[-1])
        found.reserve(entry(9.0))
        assert totals(Journal(path).entries())[0] == pytest.approx(whole[-1] + 9.0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), cap=st.floats(0.05, 3.0))
def test_no_order_of_calls_faults_and_kills_passes_a_cap(tmp_path_factory, seed: int, cap: float) -> None:
    """Each step may end between any two lines of the books; what was billed never exceeds them, nor they the cap."""
    path = tmp_path_factory.mktemp("books") / "spend.jsonl"
    draw, billed = random.Random(seed), 0.0
    caps = Caps(Budget.model_validate({"usd": cap}))
    journal = Journal(path)
    for number in range(25):
        if draw.random() < 0.3:
            journal = Journal(path)
        for left in journal.open_entries():
            journal.lose(left)
        wanted = entry(draw.random() * 0.4, call=f"{number:064d}")
        try:
            caps.admit(journal.entries(), wanted)
        except BudgetSpentError:
            continue
        reserved, end = journal.reserve(wanted), draw.choice(["settle", "lose", "release", "kill"])
        cost = reserved.usd * draw.random()
        billed += 0.0 if end == "release" else cost
        if end == "settle":
            journal.settle(reserved, cost, 1)
        elif end != "kill":
            getattr(journal, end)(reserved)
    assert billed <= totals(Journal(path).entries())[0] + 1e-9 <= cap + 2e-9


def test_a_foreign_line_in_the_books_is_no_licence_to_spend(tmp_path: Path) -> None:
    path = tmp_path / "spend.jsonl"
    Journal(path).reserve(entry(1.0))
    path.write_bytes(path.read_bytes() + b'{"event": "reserve", "id": "x"}\n')
    with pytest.raises(StoreError, match="none of the books"):
        Journal(path)


def test_books_that_cannot_be_written_stop_the_call(tmp_path: Path, serve) -> None:
    wire = serve([Say("x")])
    books = meter(tmp_path, usd=1.0)
    (tmp_path / "spend.jsonl").mkdir()
    with pytest.raises(StoreError, match="no call is made unrecorded"):
        books.ask(model(wire), ME, ask("a"), 0)
    assert wire.requests == []
