"""Records carried to another place and back: nothing lost, nothing overwritten, nothing damaged taken."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from sia_flow.errors import InfrastructureError, StoreError
from sia_flow.lineage.check import check_store
from sia_flow.lineage.heads import heads, read_head, write_head
from sia_flow.lineage.mirror import pull, push
from sia_flow.lineage.remote import Place
from sia_flow.lineage.store import Store
from sia_flow.providers.journal import Account, Entry, Journal, totals
from tests.lineage.chain import grow, make_chain


@pytest.fixture(params=["folder", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind that needs no server, empty."""
    there = tmp_path / "there"
    return {"folder": str(there), "file": f"file://{there}", "memory": f"memory://{uuid.uuid4().hex}/group"}[
        request.param
    ]


def tree(state: Path) -> dict[str, bytes]:
    """Every file of a store but what grows by lines."""
    return {
        path.relative_to(state).as_posix(): path.read_bytes()
        for path in sorted((state / "store").rglob("*"))
        if path.is_file() and path.suffix != ".jsonl"
    }


def spend(state: Path, call: str, usd: float) -> None:
    journal = Journal(state / "spend" / "small" / "aaaa.jsonl")
    entry = journal.reserve(Entry("", call, Account("SIA-H", 0, "meta"), "m", "open", 2 * usd, 100))
    journal.settle(entry, usd, 50)


def spent(state: Path) -> tuple[float, int]:
    return totals(Journal(state / "spend" / "small" / "aaaa.jsonl").entries())


def test_what_was_pushed_is_pulled_byte_for_byte(tmp_path, url):
    one, two = tmp_path / "one", tmp_path / "two"
    make_chain(one / "store")
    sent = push(one, url)
    assert sent.files > 10
    assert sent.there == 0
    got = pull(two, url)
    assert (got.files, got.size, got.differing) == (sent.files, sent.size, [])
    assert tree(two) == tree(one)
    assert check_store(Store(two / "store")).faults == []
    assert check_store(Store(two / "store")).unsealed == 0


def test_a_second_time_nothing_is_carried(tmp_path, url):
    make_chain(tmp_path / "one/store")
    first = push(tmp_path / "one", url)
    again = push(tmp_path / "one", url)
    assert (again.files, again.there) == (0, first.files)
    pull(tmp_path / "two", url)
    lines = (tmp_path / "two/store/seals.jsonl").read_bytes()
    assert pull(tmp_path / "two", url).files == 0
    assert (tmp_path / "two/store/seals.jsonl").read_bytes() == lines


def test_two_that_work_apart_end_with_the_same_records(tmp_path, url):
    one, two = tmp_path / "one", tmp_path / "two"
    grow(Store(one / "store"), 0, None)
    grow(Store(two / "store"), 1, None)
    push(one, url)
    push(two, url)
    assert pull(one, url).files > 0
    assert pull(two, url).files > 0
    assert tree(one) == tree(two)
    # What was learned from the other side is not sent back as one's own.
    assert push(one, url).files == 0


def test_folders_that_come_and_go_bring_no_line_of_others_again(tmp_path, url):
    make_chain(tmp_path / "one/store")
    push(tmp_path / "one", url)
    first = Place(url).sizes()
    pull(tmp_path / "two", url)
    push(tmp_path / "two", url)
    assert Place(url).sizes() == first
    grow(Store(tmp_path / "two/store"), 2, None)
    push(tmp_path / "two", url)
    pull(tmp_path / "three", url)
    lines = (tmp_path / "three/store/seals.jsonl").read_bytes().splitlines()
    assert sorted(lines) == sorted((tmp_path / "two/store/seals.jsonl").read_bytes().splitlines())
    assert check_store(Store(tmp_path / "three/store")).unsealed == 0


def test_what_a_run_adds_during_a_push_leaves_the_place_sound(tmp_path, url):
    store = make_chain(tmp_path / "one/store")
    fresh = iter(range(2, 99))

    def goes_on(_files: int, _size: int) -> None:
        longer = grow(store, next(fresh), None)
        head = read_head(store, "small", "SIA-H", 0)
        write_head(store, head.model_copy(update={"generations": (*head.generations, longer.id)}))

    push(tmp_path / "one", url, goes_on)
    assert next(fresh) > 3
    pull(tmp_path / "two", url)
    assert check_store(Store(tmp_path / "two/store")).faults == []
    push(tmp_path / "one", url)
    pull(tmp_path / "two", url)
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_a_head_goes_forward_and_never_back(tmp_path, url):
    one, two = tmp_path / "one", tmp_path / "two"
    store = make_chain(one / "store")
    push(one, url)
    pull(two, url)
    longer = grow(store, 2, f"{1:064x}")
    head = read_head(store, "small", "SIA-H", 0)
    write_head(store, head.model_copy(update={"generations": (*head.generations, longer.id), "result": None}))
    push(one, url)
    assert push(two, url).differing == []
    pull(two, url)
    assert [len(head.generations) for head in heads(Store(two / "store"))] == [3]
    pull(one, url)
    assert [len(head.generations) for head in heads(store)] == [3]


def test_runs_that_went_on_in_two_ways_are_named_and_kept(tmp_path, url):
    one, two = tmp_path / "one", tmp_path / "two"
    store = make_chain(one / "store")
    push(one, url)
    pull(two, url)
    for state, index in ((one, 2), (two, 3)):
        own = Store(state / "store")
        fresh = grow(own, index, f"{1:064x}")
        head = read_head(own, "small", "SIA-H", 0)
        write_head(own, head.model_copy(update={"generations": (*head.generations, fresh.id)}))
    push(one, url)
    assert push(two, url).differing == ["small/SIA-H/seed-0"]
    assert pull(two, url).differing == ["small/SIA-H/seed-0"]
    assert heads(Store(two / "store"))[0].generations[-1] == f"{3:064x}"
    assert {one.id for one in Store(two / "store").generations()} >= {f"{2:064x}", f"{3:064x}"}
    assert heads(store)[0].generations[-1] == f"{2:064x}"


@pytest.mark.parametrize("kind", ["store/files/", "store/steps/", "answers/"])
def test_what_is_damaged_there_is_refused_by_name(tmp_path, url, kind):
    one, two = tmp_path / "one", tmp_path / "two"
    make_chain(one / "store")
    (one / "answers" / "ab").mkdir(parents=True)
    (one / "answers" / "ab" / "abcd.json").write_text('{"call": "abcd"}\n')
    push(one, url)
    place = Place(url)
    name = next(name for name in sorted(place.sizes()) if name.startswith(kind))
    place.write({name: b'{"call": "another one"}'})
    with pytest.raises(StoreError, match=f"{name} is damaged, and was not taken"):
        pull(two, url)
    assert not (two / name).exists()
    # The next push puts it right, since its size is another one.
    push(one, url)
    assert pull(two, url).files > 0
    assert tree(two) == tree(one)


def test_a_head_that_is_damaged_there_is_not_taken(tmp_path, url):
    make_chain(tmp_path / "one/store")
    push(tmp_path / "one", url)
    name = "store/heads/small/SIA-H/seed-0.json"
    Place(url).write({name: b'{"experiment": '})
    with pytest.raises(StoreError, match="a head, here or there, is damaged"):
        pull(tmp_path / "two", url)
    assert not (tmp_path / "two" / name).exists()


def test_what_was_spent_elsewhere_counts_and_counts_once(tmp_path, url):
    one, two = tmp_path / "one", tmp_path / "two"
    make_chain(one / "store")
    # The same call on both machines, with the same number in its books.
    spend(one, "c" * 64, 1.0)
    spend(two, "c" * 64, 0.5)
    make_chain(two / "store")
    push(one, url)
    push(two, url)
    for _ in range(2):
        pull(one, url)
        pull(two, url)
        push(one, url)
        push(two, url)
    assert spent(one) == spent(two) == (1.5, 100)
    spend(two, "d" * 64, 0.25)
    push(two, url)
    pull(one, url)
    assert spent(one) == (1.75, 150)


def test_own_lines_that_were_lost_here_come_back(tmp_path, url):
    make_chain(tmp_path / "one/store")
    spend(tmp_path / "one", "c" * 64, 1.0)
    push(tmp_path / "one", url)
    shutil.rmtree(tmp_path / "one/spend")
    pull(tmp_path / "one", url)
    assert spent(tmp_path / "one") == (1.0, 50)


def test_a_place_that_holds_nothing_or_something_newer_is_said(tmp_path, url):
    make_chain(tmp_path / "one/store")
    with pytest.raises(StoreError, match="holds no records of sia-flow"):
        pull(tmp_path / "one", url)
    Place(url).write({"store/VERSION": b"2\n"})
    for carry in (push, pull):
        with pytest.raises(StoreError, match="of a newer sia-flow"):
            carry(tmp_path / "one", url)


@pytest.mark.parametrize("name", ["store/steps/../../../../outside.json", "lines/x/../../outside.jsonl"])
def test_a_name_that_leads_out_is_refused(tmp_path, monkeypatch, name):
    make_chain(tmp_path / "one/store")
    place = str(tmp_path / "there")
    push(tmp_path / "one", place)
    monkeypatch.setattr(Place, "sizes", lambda _: {"store/VERSION": 2, name: 2})
    with pytest.raises(StoreError, match="is no name of a file of a store"):
        pull(tmp_path / "two", place)


def test_a_place_that_cannot_be_reached_is_an_infrastructure_fault(tmp_path):
    make_chain(tmp_path / "one/store")
    with pytest.raises(InfrastructureError, match="nowhere://x"):
        push(tmp_path / "one", "nowhere://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="file/below"):
        push(tmp_path / "one", str(tmp_path / "file/below"))
