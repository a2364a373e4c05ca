"""Whatever happens to the writer of a store, it ends in the records of a run that nothing happened to."""

from __future__ import annotations

import os

import pytest

from benchmarks.crash import Trials

KILLS = int(os.environ.get("SIA_FLOW_KILLS", "20"))
"""How many kills: 200 in the long form."""


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(tmp_path_factory.mktemp("crash"), 7)


@pytest.mark.slow
def test_kills_at_random_points_lose_nothing(trials: Trials) -> None:
    trials.kills(KILLS)
    assert trials.counts["kills"] == KILLS


def test_files_cut_short_are_found_set_aside_and_made_again(trials: Trials) -> None:
    trials.power_cuts(max(3, KILLS // 10))


def test_a_full_disk_and_a_read_only_store_are_refused_by_name(trials: Trials) -> None:
    trials.full_disks(max(4, KILLS // 10))
    trials.read_only()


def test_the_clock_may_jump(trials: Trials) -> None:
    trials.clock_jumps(1)


def test_two_hosts_write_the_same_records(trials: Trials) -> None:
    trials.two_hosts(2)
