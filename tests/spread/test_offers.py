"""Workers that have nothing to do help those that have: who is sent where, and what their deaths and faults cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sia_flow.spread.offers import DEATHS, Offers
from tests.spread.world import Heard, alive, crew, pids, project

ALONE: dict[str, Any] = {"arms": ["SIA-H"], "seeds": [0], "spread": {"jobs": 2}}


def helps(root: Path) -> list[str]:
    """Return who helped with what: process and offer."""
    return sorted(path.name.removeprefix("help-") for path in root.glob("help-*"))


def test_the_oldest_offer_is_handed_out_until_it_is_over() -> None:
    offers, one, other = Offers[object](), object(), object()
    assert offers.next() is None
    offers.add("a", one)
    offers.add("b", other)
    assert [offers.next(), offers.next()] == ["a", "a"]
    offers.over("a")
    assert offers.next() == "b"
    offers.gone(one)
    assert offers.next() == "b"
    offers.gone(other)
    assert offers.next() is None
    offers.over("a")


def test_after_so_many_deaths_nobody_is_sent() -> None:
    offers = Offers[object]()
    offers.add("a", object())
    for _ in range(DEATHS):
        assert offers.next() == "a"
        offers.died()
    assert offers.stopped
    assert offers.next() is None


def test_one_arm_has_the_other_worker_as_its_help(tmp_path: Path) -> None:
    found = crew(project(tmp_path, offers=["SIA-H-0"], together=2), **ALONE)
    assert len(found.run()) == 1
    assert len(pids(tmp_path)) == 2
    assert len(helps(tmp_path)) == 1
    assert found.parts == 1
    assert not any(map(alive, pids(tmp_path)))


@pytest.mark.parametrize("spread", [{"jobs": 2, "share": False}, {}])
def test_where_nobody_is_to_help_there_are_no_more_workers_than_arms(tmp_path: Path, spread: dict[str, Any]) -> None:
    crew(project(tmp_path), **{**ALONE, "spread": spread}).run()
    assert len(pids(tmp_path)) == 1


def test_helpers_that_die_are_replaced_until_it_is_too_many(tmp_path: Path) -> None:
    heard = Heard()
    root = project(tmp_path, offers=["SIA-H-0"], helps=DEATHS, helping="dies", together=2)
    assert len(crew(root, heard, **ALONE).run()) == 1
    assert len(helps(tmp_path)) == DEATHS
    assert sum("a worker that helped" in text for text in heard.warnings) >= DEATHS - 1


def test_a_helper_that_cannot_says_so_once(tmp_path: Path) -> None:
    heard = Heard()
    root = project(tmp_path, offers=["SIA-H-0", "SIA-W-0"], helping="no sandbox here", together=2)
    assert len(crew(root, heard, **{**ALONE, "arms": ["SIA-H"], "seeds": [0]}).run()) == 1
    (warning,) = [text for text in heard.warnings if "cannot help" in text]
    assert warning.endswith("cannot help: no sandbox here")
    assert len(helps(tmp_path)) == 1


def test_a_worker_that_draws_or_helps_takes_a_job_when_there_is_one(tmp_path: Path) -> None:
    """Four arms and seeds on two workers: help is for those who would wait, and no job waits for it."""
    found = crew(project(tmp_path, together=2), **{**ALONE, "arms": ["SIA-H", "SIA-W"], "seeds": [0, 1]})
    assert len(found.run()) == 4
    assert helps(tmp_path) == []
