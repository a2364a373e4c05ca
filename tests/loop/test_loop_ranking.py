"""Ranking programs: each once, with its best reward, ties by text."""

from __future__ import annotations

from sia_flow.loop.evaluate import as_pairs, rank_programs


def test_each_program_stands_once_with_its_best_reward() -> None:
    ranked = rank_programs([("b", 0.1), ("a", 0.3), ("b", 0.4), ("c", 0.3), ("a", 0.2)], 3)
    assert as_pairs(ranked) == [("b", 0.4), ("a", 0.3), ("c", 0.3)]
    assert rank_programs(as_pairs(ranked), 1) == [{"program": "b", "reward": 0.4}]
    assert rank_programs([], 3) == []
