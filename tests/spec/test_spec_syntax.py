"""YAML: positions, YAML 1.2 scalars, and documents that try to do harm."""

from __future__ import annotations

import pytest

from sia_flow.spec.nodes import Mark, find
from sia_flow.spec.problems import InvalidSpecError
from sia_flow.spec.syntax import MAX_DEPTH, parse_yaml


def parse(text: str) -> object:
    document = parse_yaml(text, "f.yaml")
    assert document.problems == ()
    return document.root.plain()


def problems(text: str) -> list[str]:
    try:
        return [str(problem) for problem in parse_yaml(text, "f.yaml").problems]
    except InvalidSpecError as error:
        return str(error).splitlines()


def test_every_value_knows_its_line_and_column() -> None:
    root = parse_yaml("a:\n  b: [1, {c: x}]\n", "f.yaml").root
    node = find(root, ("a", "b", 1, "c"))
    assert node is not None
    assert (node.value, node.mark, node.key) == ("x", Mark("f.yaml", 2, 14), Mark("f.yaml", 2, 11))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("010", 10),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("~", None),
        ("True", True),
        (".5", 0.5),
        ("'1'", "1"),
        ("-.inf", float("-inf")),
        ("!!int 3", 3),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"k: {text}")
    assert found == {"k": value}
    assert type(found["k"]) is type(value)  # type: ignore[index]


def test_duplicate_keys_are_all_named_with_both_places() -> None:
    assert problems("a: 1\nb: {c: 1, c: 2}\na: 2\n") == [
        'f.yaml:2:11: duplicate key "c"; it stands at f.yaml:2:5 too',
        'f.yaml:3:1: duplicate key "a"; it stands at f.yaml:1:1 too',
    ]


def test_a_tab_is_named_as_the_cause() -> None:
    assert problems("a:\n\tb: 1\n") == ["f.yaml:2:1: a tab indents this line; YAML wants spaces"]


def test_a_second_document_is_refused() -> None:
    assert "a second document starts here" in problems("a: 1\n---\nb: 2\n")[0]


@pytest.mark.parametrize("text", ["a: [1, 2", "a: {b: 1", "a: 'x", "a: b: c", "- a\nb: 1", "a: *nothing", "\x01"])
def test_broken_text_is_one_problem_with_its_place(text: str) -> None:
    (found,) = problems(text)
    assert found.startswith("f.yaml")
    assert "1:" in found
    assert "not readable as YAML" in found


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system x",
        "a: !own 1",
        "a: !!set {x}",
    ],
)
def test_tags_that_make_objects_are_refused(text: str) -> None:
    assert any("is not allowed; write a plain value" in line for line in problems(text))


@pytest.mark.parametrize(("text", "hint"), [("<<: {a: 1}", "use extends"), ("1: a", "in quotes"), ("[a]: b", "text")])
def test_keys_that_are_no_plain_text_are_refused(text: str, hint: str) -> None:
    assert hint in problems(text)[0]


def test_a_wrong_explicit_tag_is_refused() -> None:
    assert problems("a: !!int x") == ['f.yaml:1:4: "x" is no !!int']
    assert problems("a: !!bool yes") == ['f.yaml:1:4: "yes" is no !!bool']


def test_anchors_copy_values() -> None:
    assert parse("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}


def test_an_anchor_bomb_is_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases count as copies" in problems("\n".join(lines))[0]


def test_an_alias_of_itself_is_stopped() -> None:
    assert "contains it" in problems("a: &a [1, *a]")[0]


def test_deep_nesting_is_stopped() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert f"deeper than {MAX_DEPTH}" in problems("[" * 5000 + "]" * 5000)[0]
