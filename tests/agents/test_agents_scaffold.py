"""The reference scaffold and every structural edit of it, run on a scripted job."""

import ast
import itertools

import pytest

from sia_flow.agents.catalogue import CATALOGUE, MAX_EXEMPLAR, Context
from sia_flow.agents.evidence import statistics_of
from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.constants import constant_values, set_constants
from sia_flow.scaffold.contract import check
from sia_flow.scaffold.diff import unified_diff
from sia_flow.scaffold.functions import function_source
from tests.agents.world import FUNCTION, REFERENCE, Job, rollouts, solve

SOURCE = REFERENCE["scaffold.py"]
BEST = "import numpy as np\n\n" + FUNCTION
ENTRIES = {entry.name: entry for entry in CATALOGUE}


def edited(*names, source=SOURCE, best=BEST):
    for name in names:
        source = ENTRIES[name].apply(source, Context(best))
    return source


def function(mark):
    return f"def denoise(counts, seed):\n    return counts  # {mark}\n"


def test_the_reference_asks_once_and_answers_with_a_whole_program():
    job = Job([f"noise before\n{function('a')}"])
    program = solve(set_constants(SOURCE, {"KNN": 7, "TEMPERATURE": 0.8}), job)
    assert job.asked == [("Write denoise(counts, seed).", 1, 0.8)]
    assert program == (
        f"import numpy as np\nimport denoise_kit as kit\nKNN, T, N_PCA, DECAY = 7, 3, 100, 1.0\n\n{function('a')}"
    )
    ast.parse(program)


def test_the_reference_returns_a_string_whatever_the_policy_says():
    assert check(REFERENCE) == []
    for answer in ("", "no function here", "def denoise(", "\x00"):
        assert solve(SOURCE, Job([answer])).endswith(answer)


def test_best_of_n_takes_the_best_valid_program_on_the_visible_counts():
    job = Job([function(mark) for mark in "abca"], {"# a": 0.1, "# b": 0.3, "# c": 0.2})
    assert "# b" in solve(edited("best-of-n"), job)
    assert job.asked == [("Write denoise(counts, seed).", 3, 1.0)]
    assert len(job.scored) == 3


def test_best_of_n_prefers_a_valid_program_over_an_invalid_one():
    job = Job(["broken", "broken too", function("bad"), "broken"], {"# bad": -1.0})
    assert "# bad" in solve(edited("best-of-n"), job)


def test_retry_names_the_reason_and_stops_at_the_first_valid_program():
    source = set_constants(edited("retry"), {"RETRIES": 3})
    job = Job(["broken", "broken", function("a"), "unused"], {"# a": 0.1})
    assert "# a" in solve(source, job)
    assert [question for question, *_ in job.asked[1:]] == ["Write denoise(counts, seed).\nFailed: syntax"] * 2


def test_retry_gives_up_after_its_retries():
    job = Job(["broken 1", "broken 2", "unused"], {"# a": 0.1})
    assert solve(edited("retry"), job).endswith("broken 2")


def test_refine_shows_the_program_and_keeps_the_better_one():
    job = Job([function("a"), function("b"), function("c")], {"# a": 0.1, "# b": 0.3, "# c": 0.2})
    assert "# b" in solve(set_constants(edited("refine"), {"ROUNDS": 2}), job)
    examples = [question.removeprefix("Write denoise(counts, seed).\nExample:\n") for question, *_ in job.asked]
    assert examples[1:] == [function("a"), function("b")]


def test_the_exemplar_quotes_the_function_of_the_best_program():
    job = Job([function("a")])
    solve(edited("exemplar"), job)
    assert job.asked[0][0] == f"Write denoise(counts, seed).\nExample:\n{FUNCTION}"


def test_the_exemplar_is_refreshed_by_a_better_program_only():
    first = edited("exemplar")
    assert not ENTRIES["exemplar"].applies(first, Context(BEST))
    better = Context("import x\n" + function("better"))
    assert ENTRIES["exemplar"].applies(first, better)
    refreshed = ENTRIES["exemplar"].apply(first, better)
    assert "# better" in refreshed
    assert function_source(refreshed, "prompt") == function_source(first, "prompt")


def test_a_hostile_program_is_quoted_and_never_runs(tmp_path):
    mark = tmp_path / "ran"
    hostile = f"def denoise(c, s):\n    pass\n'''\n\"\"\"\n)\nopen({str(mark)!r}, 'w')\n"
    job = Job([function("a")])
    solve(edited("exemplar", best=hostile), job)
    assert job.asked[0][0].endswith(hostile)
    assert not mark.exists()


@pytest.mark.parametrize("best", [None, "", "x = 1\n", FUNCTION + "#" * MAX_EXEMPLAR])
def test_there_is_no_exemplar_without_a_short_program(best):
    assert not ENTRIES["exemplar"].applies(SOURCE, Context(best))


@pytest.mark.parametrize("names", [p for r in (1, 2, 4) for p in itertools.permutations(ENTRIES, r)])
def test_edits_compose_in_every_order_and_honour_the_contract(names):
    source = edited(*names)
    assert check({"scaffold.py": source}) == []
    assert constant_values(source).items() >= constant_values(SOURCE).items()
    answers = [function(mark) for mark in range(40)]
    program = solve(source, Job(answers, {f"# {mark}\n": mark / 40 for mark in range(40)}))
    ast.parse(program)
    assert not any(ENTRIES[name].applies(source, Context(BEST)) for name in names)


@pytest.mark.parametrize("names", [(name,) for name in ENTRIES] + [tuple(ENTRIES)])
def test_an_edited_scaffold_answers_without_the_tool(names):
    job = Job([function("a")] * 40)
    assert "# a" in solve(edited(*names), job)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_edit_is_a_small_diff_with_its_cost_stated(name):
    edit = ENTRIES[name].edit(REFERENCE, Context(BEST))
    diff = unified_diff(REFERENCE, {**REFERENCE, **edit.files}).splitlines()
    assert 1 <= sum(line.startswith("-") for line in diff[3:]) <= 5
    assert edit.kind == "structure"
    assert edit.name.startswith(name)
    assert ENTRIES[name].cost in edit.summary


@pytest.mark.parametrize("name", ENTRIES)
def test_a_foreign_scaffold_is_left_alone(name):
    foreign = "def solve(job):\n    return ''\n"
    assert not ENTRIES[name].applies(foreign, Context(BEST))
    with pytest.raises(ScaffoldError, match="needs"):
        ENTRIES[name].apply(foreign, Context(BEST))


def test_expected_gains_follow_the_rewards():
    rewards = statistics_of(*rollouts((0.0, 0.0, 0.1, 0.3)))
    assert rewards.expected_best(1) == pytest.approx(rewards.mean)
    by_hand = sum(max(a, b) for a in (0, 0, 0.1, 0.3) for b in (0, 0, 0.1, 0.3)) / 16
    assert rewards.expected_best(2) == pytest.approx(by_hand)
    assert ENTRIES["best-of-n"].gain(rewards) > ENTRIES["refine"].gain(rewards) > 0
    assert ENTRIES["exemplar"].gain(rewards) == pytest.approx(0.1 * (0.3 - 0.1))
    assert ENTRIES["retry"].gain(rewards) == pytest.approx(0.5 * 0.5 * (0.2 - 0.1))
    equal = statistics_of(*rollouts((0.1, 0.1)))
    assert [entry.gain(equal) for entry in CATALOGUE] == pytest.approx([0.0] * len(CATALOGUE))
