"""What may run as a scaffold, and what is said of one that may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.scaffold.contract import MAX_BYTES, check

GOOD = "def solve(job):\n    return ''\n"


def codes(files):
    return {problem.code for problem in check(files)}


def test_a_plain_scaffold_passes():
    assert check({"scaffold.py": GOOD, "prompts.md": "# text", "tools.py": "X = 1\n"}) == []


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, "missing"),
        ({"main.py": GOOD}, "missing"),
        ({"scaffold.py": GOOD, "../evil.py": ""}, "path"),
        ({"scaffold.py": GOOD, "/etc/x.py": ""}, "path"),
        ({"scaffold.py": GOOD, ".hidden.py": ""}, "path"),
        ({"scaffold.py": GOOD, "lib.so": ""}, "path"),
        ({"scaffold.py": GOOD, "a\n.py": ""}, "path"),
        ({"scaffold.py": GOOD, "\ud800.py": ""}, "path"),
        ({"scaffold.py": GOOD, "a.md": "x" * MAX_BYTES}, "size"),
        ({"scaffold.py": GOOD, **{f"m{i}.py": "" for i in range(16)}}, "size"),
        ({"scaffold.py": GOOD, "a.md": "\udc80"}, "text"),
        ({"scaffold.py": "def solve(job:\n"}, "syntax"),
        ({"scaffold.py": GOOD, "tools.py": "x ="}, "syntax"),
        ({"scaffold.py": "x = 1\n"}, "solve"),
        ({"scaffold.py": "def solve():\n    return ''\n"}, "solve"),
        ({"scaffold.py": "def solve(job, more):\n    return ''\n"}, "solve"),
        ({"scaffold.py": "def solve(*jobs):\n    return ''\n"}, "solve"),
        ({"scaffold.py": "async def solve(job):\n    return ''\n"}, "solve"),
        ({"scaffold.py": "class A:\n    def solve(job):\n        return ''\n"}, "solve"),
        ({"scaffold.py": f"# tune: begin\nK: int = 5\n# tune: end\n{GOOD}"}, "constants"),
    ],
)
def test_a_broken_contract_is_named(files, code):
    problems = check(files)
    assert {problem.code for problem in problems} == {code}
    assert all(problem.message.isprintable() for problem in problems)


def test_the_definition_that_counts_is_the_last_one():
    assert codes({"scaffold.py": GOOD + "def solve(a, b):\n    return ''\n"}) == {"solve"}


def test_checking_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    assert check({"scaffold.py": f"open({str(mark)!r}, 'w')\n{GOOD}"}) == []
    assert not mark.exists()


@given(st.dictionaries(st.text(max_size=12) | st.just("scaffold.py"), st.text(max_size=60), max_size=3))
def test_any_files_give_problems_and_never_an_exception(files):
    assert all(problem.message for problem in check(files))
