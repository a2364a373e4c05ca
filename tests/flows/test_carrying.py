"""The records of a run whose folder ends with it: at the place afterwards, or the run says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import carrying
from flows.carrying import carried
from sia_flow.errors import InfrastructureError
from sia_flow.lineage.check import check_store
from sia_flow.lineage.mirror import pull
from sia_flow.lineage.store import Store
from tests.flows.world import until
from tests.lineage.chain import grow, make_chain


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A place that can go away at once, and come back with what it holds."""
    (tmp_path / "away").write_text("no folder")
    (tmp_path / "place").mkdir()
    (tmp_path / "there").symlink_to("place")
    return tmp_path / "there"


def goes_away(there: Path) -> None:
    (there.parent / "moved").symlink_to("away")
    (there.parent / "moved").replace(there)


def comes_back(there: Path) -> None:
    (there.parent / "moved").symlink_to("place")
    (there.parent / "moved").replace(there)


def tree(state: Path) -> dict[str, bytes]:
    """Every file of a store but what grows by lines."""
    found = sorted((state / "store").rglob("*"))
    return {str(p.relative_to(state)): p.read_bytes() for p in found if p.is_file() and p.suffix != ".jsonl"}


def is_there(there: Path, state: Path) -> bool:
    """Whether all that `state` has lies at the place, half-written or whole."""
    return set(tree(state)) <= {str(path.relative_to(there)) for path in there.rglob("*")}


def fetched(there: Path, folder: Path) -> dict[str, bytes]:
    """What somebody else gets from a place, whole and sound."""
    pull(folder, str(there))
    assert check_store(Store(folder / "store")).faults == []
    return tree(folder)


def test_without_a_place_nothing_is_carried(tmp_path: Path) -> None:
    said: list[str] = []
    with carried(tmp_path / "state", None, said.append):
        pass
    assert (said, list(tmp_path.iterdir())) == ([], [])


def test_the_first_run_begins_with_nothing_and_the_second_with_what_it_left(tmp_path: Path, there: Path) -> None:
    said: list[str] = []
    one, two = tmp_path / "one", tmp_path / "two"
    with carried(one, str(there), said.append):
        assert not list((one / "store").rglob("*.json"))
        make_chain(one / "store")
    assert said[0] == f"0 files of records came from {there}"
    with carried(two, str(there), said.append):
        assert tree(two) == tree(one)
    assert said[-1] == f"0 files of records went to {there}"


def test_a_run_that_fails_leaves_its_records(tmp_path: Path, there: Path) -> None:
    def fail() -> None:
        with carried(tmp_path / "one", str(there), print):
            make_chain(tmp_path / "one/store")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert fetched(there, tmp_path / "two") == tree(tmp_path / "one")


def test_records_go_out_while_the_run_is_under_way(tmp_path: Path, there: Path) -> None:
    one = tmp_path / "one"
    with carried(one, str(there), print, every=0.02):
        for index in range(3):
            grow(Store(one / "store"), index, None)
            until(lambda: is_there(there, one))
    assert fetched(there, tmp_path / "two") == tree(one)


def test_a_place_that_is_gone_in_the_middle_and_comes_back_misses_nothing(tmp_path: Path, there: Path) -> None:
    said: list[str] = []
    one = tmp_path / "one"
    with carried(one, str(there), said.append, every=0.02):
        goes_away(there)
        make_chain(one / "store")
        until(lambda: any(text.startswith(f"records were not brought to {there}, which is tried") for text in said))
        comes_back(there)
        until(lambda: is_there(there, one))
    assert fetched(there, tmp_path / "two") == tree(one)


def test_at_the_end_a_place_that_is_gone_is_tried_again(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        comes_back(there)

    monkeypatch.setattr(carrying.time, "sleep", wait)
    with carried(tmp_path / "one", str(there), print):
        make_chain(tmp_path / "one/store")
        goes_away(there)
    assert len(waits) == 1
    assert fetched(there, tmp_path / "two") == tree(tmp_path / "one")


def test_at_the_end_a_place_that_stays_gone_fails_the_run(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "_WAITS", (0.0, 0.0))
    with pytest.raises(InfrastructureError, match=str(there)), carried(tmp_path / "one", str(there), print):
        goes_away(there)
