"""PUCT by hand, visits and rewards up the tree, a bounded archive, and whose turn it is to start from a program."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.agents.catalogue import CATALOGUE, Context
from sia_flow.lineage.records import Trajectory, Verdict
from sia_flow.loop.archive import Archive, Expansion
from sia_flow.loop.reuse import Starts, expansions, showing_starts
from sia_flow.spec.models import Reuse
from tests.agents.world import FUNCTION, REFERENCE, Job, solve

FIRST = [("a", 0.3), ("b", 0.2), ("c", 0.1)]
ASK = "Write denoise(counts, seed)."


def entries(archive: Archive) -> dict[str, tuple[str | None, int, float]]:
    return {e.program: (e.parent, e.visits, e.value) for e in archive.ranked()}


def test_scores_by_hand() -> None:
    archive = Archive(10, 2.0, FIRST)
    assert archive.scores() == pytest.approx({"a": 0.3 + 2 * 3 / 6, "b": 0.2 + 2 * 2 / 6, "c": 0.1 + 2 * 1 / 6})
    archive.learn([Expansion("a", 0.25, [])])
    root = 2 * math.sqrt(2)
    by_hand = {"a": 0.25 + root * 3 / 6 / 2, "b": 0.2 + root * 2 / 6, "c": 0.1 + root / 6}
    assert archive.scores() == pytest.approx(by_hand)
    assert archive.pick(2) == ["b", "a"]
    assert archive.pick(9) == ["b", "a", "c"]
    assert Archive(10, 0.0, FIRST).pick(3) == ["a", "b", "c"]
    assert Archive(10, 1.0).pick(2) == []


def test_visits_and_what_was_reached_go_up_to_all_ancestors_and_no_further() -> None:
    archive = Archive(10, 1.0, FIRST)
    archive.learn([Expansion("b", 0.15, [("child", 0.15)])])
    assert entries(archive)["b"] == (None, 1, 0.15)
    archive.learn([Expansion("child", 0.5, [("grandchild", 0.5), ("a", 0.2)])])
    archive.learn([Expansion("grandchild", 0.0, []), Expansion(None, 0.4, [("fresh", 0.4)])])
    assert archive.expansions == 3
    assert entries(archive) == {
        "grandchild": ("child", 1, 0.0),
        "fresh": (None, 0, 0.4),
        "a": (None, 0, 0.3),
        "b": (None, 3, 0.5),
        "child": ("b", 2, 0.5),
        "c": (None, 0, 0.1),
    }


def test_a_program_that_is_found_again_keeps_its_parent_and_its_best_reward() -> None:
    archive = Archive(10, 1.0, FIRST)
    archive.learn([Expansion("b", 0.6, [("b", 0.6), ("c", 0.05)])])
    assert {e.program: (e.parent, e.reward) for e in archive.ranked()} == {
        "b": (None, 0.6),
        "a": (None, 0.3),
        "c": (None, 0.1),
    }


def test_ties_are_broken_by_text_in_whatever_order_the_programs_came() -> None:
    for order in itertools.permutations(["x", "y", "z"]):
        archive = Archive(2, 1.0, [(name, 0.2) for name in order])
        assert [entry.program for entry in archive.ranked()] == ["x", "y"]
        assert archive.pick(2) == ["x", "y"]
        level = Archive(3, 0.0, [(name, 0.2) for name in order])
        assert level.pick(3) == ["x", "y", "z"]


def test_what_is_dropped_leaves_its_children_to_its_own_parent() -> None:
    archive = Archive(3, 1.0, [("root", 0.9), ("mid", 0.1)])
    archive.learn([Expansion("mid", 0.8, [("leaf", 0.8)])])
    archive.learn([Expansion("root", 0.2, [("between", 0.2)])])
    assert [e.program for e in archive.ranked()] == ["root", "leaf", "between"]
    assert entries(archive)["leaf"][0] is None
    archive.learn([Expansion("between", 0.95, [("top", 0.95)])])
    assert entries(archive) == {"top": ("root", 0, 0.95), "root": (None, 2, 0.95), "leaf": (None, 0, 0.8)}


groups = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 1)), max_size=4)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=groups, size=st.integers(1, 5), c=st.floats(0, 3))
def test_whatever_it_learns_it_stays_bounded_with_the_best_and_a_tree(steps: Any, size: int, c: float) -> None:
    archive, best = Archive(size, c), 0.0
    for starts, found in steps:
        start = (archive.pick(1) or [None])[0] if starts else None
        archive.learn([Expansion(start, max([r for _, r in found], default=0.0), found)])
        best = max([best, *(r for _, r in found)])
        ranked = archive.ranked()
        assert len(ranked) <= size
        assert not ranked or ranked[0].reward == best
        parents = {entry.program: entry.parent for entry in ranked}
        for program, parent in parents.items():
            up, seen = parent, {program}
            while up is not None:
                assert up not in seen
                seen.add(up)
                up = parents[up]
        prior = Archive(size, 1.0, [(e.program, e.reward) for e in ranked]).scores()
        assert not ranked or sum(prior.values()) == pytest.approx(1 + sum(e.reward for e in ranked))


def test_only_valid_programs_are_found_and_a_failure_is_what_was_reached() -> None:
    trajectories = [
        Trajectory(instance=i, sample=k, seed=k, answer=a)
        for i, answers in (("one", ["p", "q", "p"]), ("two", ["r", None]))
        for k, a in enumerate(answers)
    ]
    verdicts = [
        Verdict(reward=r, valid=v) for r, v in [(0.2, True), (0.0, False), (0.3, True), (0.0, False), (0, False)]
    ]
    one, two = expansions({"two": "start"}, trajectories, verdicts)
    assert one == Expansion(None, 0.3, [("p", 0.3)])
    assert two == Expansion("start", 0.0, [])
    assert [Expansion.parse(json.loads(json.dumps(e.plain()))) for e in (one, two)] == [one, two]


def notes(count: int) -> list[dict[str, Any]]:
    return [{"groups": [Expansion(None, 0.1 * i, [(f"p{i}", 0.1 * i)]).plain()]} for i in range(count)]


def test_an_iteration_starts_from_what_earlier_ones_wrote_and_from_nothing_later() -> None:
    written = notes(4)
    starts = Starts(Reuse(c=0.0), [("first", 0.05)], written.__getitem__)
    chosen = [starts.plan(i, ["x", "y"]) for i in range(5)]
    assert [list(plan.values()) for plan in chosen] == [["first"], ["first"], ["p1"], ["p2"], ["p3"]]
    for i in (4, 1, 3, 0, 2):
        assert starts.plan(i, ["x", "y"]) == chosen[i]
        assert Starts(Reuse(c=0.0), [("first", 0.05)], written.__getitem__).plan(i, ["x", "y"]) == chosen[i]


@pytest.mark.parametrize(("share", "names"), [(0.5, "abcd"), (0.5, "a"), (0.3, "abc"), (1.0, "ab"), (0.25, "abcde")])
def test_the_share_is_kept_over_the_iterations_and_on_every_instance(share: float, names: str) -> None:
    starts = Starts(Reuse(share=share), [(f"p{i}", 0.1) for i in range(9)], lambda _: {"groups": []})
    started = [name for i in range(20) for name in starts.plan(i, list(names))]
    assert len(started) == math.floor(share * len(names) * 20)
    counts = [started.count(name) for name in names]
    assert max(counts) - min(counts) <= 1


def test_few_programs_leave_groups_that_start_from_nothing() -> None:
    starts = Starts(Reuse(share=1.0), [("only", 0.1)], lambda _: {"groups": []})
    assert starts.plan(0, ["a", "b", "c"]) == {"a": "only"}


@pytest.mark.parametrize("edits", [(), ("exemplar",), ("best-of-n",), ("retry", "refine", "exemplar")])
def test_a_start_is_shown_in_place_of_the_question_and_nothing_else_changes(edits: tuple[str, ...]) -> None:
    source = REFERENCE["scaffold.py"]
    for entry in CATALOGUE:
        if entry.name in edits:
            source = entry.apply(source, Context(FUNCTION + "# the best\n"))
    showing = showing_starts({"scaffold.py": source})
    assert showing is not None
    started, fresh, before = (Job([FUNCTION] * 9, {"return counts": 0.1}) for _ in range(3))
    started.instance = {"id": "train-0", "start": f"import numpy as np\nKNN = 3\n\n{FUNCTION}# start\n"}
    solve(showing["scaffold.py"], started)
    assert started.asked[0][0] == f"{ASK}\nExample:\n{FUNCTION}# start\n"
    assert solve(showing["scaffold.py"], fresh) == solve(source, before)
    assert fresh.asked == before.asked


def test_a_scaffold_that_reads_starts_is_left_alone_and_a_foreign_one_is_not_made_to() -> None:
    reads = {"scaffold.py": "def solve(job):\n    return job.instance.get('start', '')\n"}
    assert showing_starts(reads) is reads
    once = showing_starts(REFERENCE)
    assert once is not None
    assert showing_starts(once) is once
    assert showing_starts({"scaffold.py": "def solve(job):\n    return ''\n"}) is None
