"""Edits of a scaffold's source: functions, texts, docstring; and the diff of two scaffolds."""

import ast
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.diff import unified_diff
from sia_flow.scaffold.docstring import append_docstring
from sia_flow.scaffold.functions import (
    add_function,
    function_names,
    function_source,
    replace_function,
    wrap_return,
)
from sia_flow.scaffold.texts import defined_names, read_text, set_text

SOURCE = '''"""A scaffold."""

import functools  # kept

ASK = "é"


@functools.cache
def ask(x):  # one
    return x

# between


def solve(job):
    text = ask("é"); return ask(
        text,
    )
# end
'''


def run(source):
    space = {}
    exec(compile(source, "scaffold.py", "exec"), space)
    return space


def test_a_function_is_replaced_with_its_decorators_and_nothing_else():
    edited = replace_function(SOURCE, "ask", "def ask(x):\n    return x + x\n")
    assert edited == SOURCE.replace(
        "@functools.cache\ndef ask(x):  # one\n    return x\n", "def ask(x):\n    return x + x\n"
    )
    assert run(edited)["solve"](None) == "éééé"


def test_a_function_is_read_with_its_decorators():
    assert function_source(SOURCE, "ask") == "@functools.cache\ndef ask(x):  # one\n    return x"
    assert function_source(SOURCE, "nobody") is None
    assert function_names(SOURCE) == ("ask", "solve")


def test_a_function_is_added_two_blank_lines_above_another():
    edited = add_function(SOURCE, "def twice(x):\n    return x * 2\n", before="ask")
    assert edited == SOURCE.replace("@functools", "def twice(x):\n    return x * 2\n\n\n@functools", 1)


def test_a_return_is_wrapped_whatever_its_shape():
    edited = wrap_return(SOURCE, "solve", "ask({}) + '!'")
    assert run(edited)["solve"](None) == "é!"
    assert edited.startswith(SOURCE[: SOURCE.index("return ask(\n")])
    assert edited.endswith("# end\n")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: replace_function(SOURCE, "asc", "def asc(): ..."), "there is ask, solve"),
        (lambda: replace_function(SOURCE, "ask", "x = 1"), "exactly one top-level function"),
        (lambda: replace_function(SOURCE, "ask", "def a(): ...\ndef b(): ..."), "exactly one"),
        (lambda: add_function(SOURCE, "def ask(): ...", before="solve"), "there is a function 'ask' already"),
        (lambda: add_function(SOURCE, "def new(): ...", before="nobody"), "no top-level function 'nobody'"),
        (lambda: wrap_return("def solve(job):\n    pass\n", "solve", "f({})"), "does not end in a return"),
        (lambda: wrap_return(SOURCE, "solve", "f({}"), "scaffold.py"),
        (lambda: set_text(SOURCE, "TEXT", "x", before="nobody"), "no top-level function 'nobody'"),
        (lambda: function_names("def f(:\n"), "scaffold.py:1"),
        (lambda: function_names("x = '\0'\n"), "cannot be parsed|null byte"),
        (lambda: function_names("x = " + "-" * 100_000 + "1"), "cannot be parsed|too"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(edit, message):
    with pytest.raises(ScaffoldError, match=message):
        edit()


@given(st.text())
def test_a_text_is_quoted_whatever_it_holds(text):
    edited = set_text(SOURCE, "TEXT", text, before="solve")
    assert read_text(edited, "TEXT") == text
    assert run(edited)["TEXT"] == text
    assert defined_names(edited) == {"ASK", "TEXT", "ask", "solve"}


def test_a_text_is_replaced_in_place_one_literal_a_line():
    first = set_text(SOURCE, "TEXT", "a\nb\n", before="solve")
    assert "TEXT: str = (\n    'a\\n'\n    'b\\n'\n)\n\n\ndef solve" in first
    second = set_text(first, "TEXT", 'os.system("x")\n"""', before="solve")
    assert read_text(second, "TEXT") == 'os.system("x")\n"""'
    assert function_source(second, "solve") == function_source(SOURCE, "solve")
    assert set_text(second, "TEXT", "a\nb\n", before="solve") == first


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_a_note_in_the_docstring_never_becomes_code(note):
    edited = append_docstring(SOURCE, note)
    old, new = ast.parse(SOURCE), ast.parse(edited)
    assert [ast.dump(node) for node in new.body[1:]] == [ast.dump(node) for node in old.body[1:]]
    assert ast.get_docstring(new).startswith("A scaffold.")


@pytest.mark.parametrize("start", ["", "'one line'\n", 'r"""raw \\d"""\n', '"""quoted \\""""\n'])
def test_a_docstring_is_made_or_continued(start):
    tree = ast.parse(append_docstring(f"{start}x = 1\n", "Read: task."))
    assert ast.get_docstring(tree).endswith("Read: task.")
    assert len(tree.body) == 2


FILES = st.dictionaries(
    st.sampled_from(["scaffold.py", "notes.md", "a.txt"]),
    st.text(st.sampled_from("ab \n\t\x0c\x1c\u2028é\r"), max_size=40).filter(bool),
    max_size=3,
)


@settings(max_examples=25, deadline=None)
@given(old=FILES, new=FILES)
def test_git_turns_the_old_scaffold_into_the_new_by_the_diff(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("diff")
    for path, text in old.items():
        (folder / path).write_bytes(text.encode())
    diff = unified_diff(old, new)
    assert (diff == "") == (old == new)
    if diff:
        command = ["git", "apply", "--whitespace=nowarn", "-"]
        subprocess.run(command, input=diff.encode(), cwd=folder, check=True, capture_output=True)
    assert {path.name: path.read_bytes().decode() for path in folder.iterdir()} == new


def test_the_diff_names_files_and_shows_the_change():
    diff = unified_diff({"scaffold.py": "a\nb\n"}, {"scaffold.py": "a\nc\n"})
    assert "--- a/scaffold.py\n+++ b/scaffold.py\n" in diff
    assert diff.endswith(" a\n-b\n+c\n")
