"""Layers of a spec: extends, --set and matrix, each value keeping its own origin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.errors import SpecError
from sia_flow.spec.load import load_experiments
from sia_flow.spec.models import Experiment
from sia_flow.spec.nodes import Mark, Node, merge
from sia_flow.spec.paths import parse_path, show_path

Write = Callable[..., Path]


def one(path: Path, *overrides: str) -> Experiment:
    (experiment,) = load_experiments(path, overrides)
    return experiment


def problem(path: Path, *overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_experiments(path, overrides)
    return str(caught.value)


def test_a_file_extends_others_maps_merge_lists_are_replaced(write: Write) -> None:
    write(
        "metadata: {name: base}\nspec: {task: {name: t, mode: m}, seeds: [1, 2], budget: {generations: 3}}",
        "base.yaml",
    )
    write("spec: {budget: {wall: 5m}}", "profiles/slow.yaml")
    top = write(
        "extends: [base.yaml, profiles/slow.yaml]\nmetadata: {name: top}\nspec: {seeds: [7], task: {mode: n}}\n"
    )
    spec = one(top).spec
    assert one(top).metadata.name == "top"
    assert (spec.task.name, spec.task.mode, spec.seeds) == ("t", "n", (7,))
    assert (spec.budget.generations, spec.budget.wall) == (3, 300.0)


def test_a_base_is_relative_to_the_file_that_names_it(write: Write) -> None:
    write(name="shared/base.yaml")
    write("extends: ../shared/base.yaml\n", "specs/middle.yaml")
    write("extends: specs/middle.yaml\n", "top.yaml")
    assert one(Path("top.yaml")).metadata.name == "one"


def test_a_problem_in_a_base_is_placed_in_the_base(write: Write) -> None:
    write("spec:\n  budget: {generations: none}\n", "base.yaml")
    write("extends: base.yaml\nmetadata: {name: a}\nspec: {task: {name: t}}\n")
    assert problem(Path("spec.yaml")).startswith("base.yaml:2:25: spec.budget.generations: ")


def test_a_circle_of_files_is_shown(write: Write) -> None:
    write("extends: b.yaml\n", "a.yaml")
    write("extends: a.yaml\n", "b.yaml")
    found = problem(Path("a.yaml"))
    assert found == "b.yaml:1:10: extends: the files extend each other in a circle: a.yaml -> b.yaml -> a.yaml"


def test_two_branches_may_share_a_base(write: Write) -> None:
    write(name="base.yaml")
    write("extends: base.yaml\nspec: {seeds: [3]}\n", "left.yaml")
    write("extends: base.yaml\n", "right.yaml")
    assert one(write("extends: [left.yaml, right.yaml]\n")).spec.seeds == (3,)


def test_a_missing_base_is_placed_where_it_is_named(write: Write) -> None:
    found = problem(write("metadata: {name: a}\nextends: bse.yaml\n"))
    assert found.startswith("spec.yaml:2:10: cannot read bse.yaml: No such file")


@pytest.mark.parametrize("name", ["a" * 300 + ".yaml", "a" * 300 + "/b.yaml"])
def test_a_base_of_an_impossible_name_is_said_to_be_unreadable(write: Write, name: str) -> None:
    assert "File name too long" in problem(write(f"metadata: {{name: a}}\nextends: {name}\n"))


@pytest.mark.parametrize("value", ["3", "[a.yaml, 3]", "{a: b}", "''"])
def test_extends_must_name_files(write: Write, value: str) -> None:
    write(name="a.yaml")
    assert "name one file, or a list of files" in problem(write(f"extends: {value}\n"))


def test_set_lays_yaml_values_over_the_file(write: Write) -> None:
    path = write("metadata: {name: a}\nspec: {task: {name: t}, arms: [{name: x, levers: [weights]}], seeds: [5]}\n")
    found = one(
        path,
        "budget.wall=10m",
        "spec.seeds=[0, 1, 2]",
        "arms[0].levers=[harness]",
        "metadata.name=b",
        "training.learning_rate=1e-4",
        "task.data=",
        "seeds[1]=9",
    )
    assert found.metadata.name == "b"
    assert (found.spec.seeds, found.spec.arms[0].levers) == ((0, 9, 2), ("harness",))
    assert (found.spec.budget.wall, found.spec.training.learning_rate, found.spec.task.data) == (
        600.0,
        1e-4,
        None,
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("budget.generation=3", 'did you mean "generations"?'),
        ("budget.generations=x", 'found "x"; expected a whole number'),
        ("budget.generations", "needs a value"),
        ("seeds[3]=1", "has 1 entries, counted from 0; there is no [3]"),
        ("arms[0]=SIA-W", "is no list in the file; set the whole list"),
        ("task.name.x=1", "holds no keys"),
        ("seeds.x=1", "holds no keys"),
        ("=1", "is no path"),
        ("a..b=1", "is no path"),
        (".a=1", "is no path"),
        ("a[=1", "is no path"),
        ("extends=x.yaml", "cannot be set"),
        ("seeds=[1", "not readable as YAML"),
    ],
)
def test_a_wrong_option_is_named_itself(write: Write, option: str, words: str) -> None:
    found = problem(write("metadata: {name: a}\nspec: {task: {name: t}, seeds: [0]}\n"), option)
    assert found.startswith(f"--set {option}: ")
    assert words in found


def test_all_wrong_options_come_at_once(write: Write) -> None:
    assert len(problem(write(), "a..b=1", "c").splitlines()) == 2


def test_a_matrix_gives_every_combination_a_name(write: Write) -> None:
    text = """\
        metadata: {name: denoise}
        spec: {task: {name: denoise}}
        matrix:
          task.mode: [sia, guarded]
          training.learning_rate: [1e-3, 1e-4]
        """
    found = load_experiments(write(text))
    assert [experiment.metadata.name for experiment in found] == [
        "denoise-mode-sia-learning-rate-0-001",
        "denoise-mode-sia-learning-rate-0-0001",
        "denoise-mode-guarded-learning-rate-0-001",
        "denoise-mode-guarded-learning-rate-0-0001",
    ]
    assert [(e.spec.task.mode, e.spec.training.learning_rate) for e in found] == [
        ("sia", 1e-3),
        ("sia", 1e-4),
        ("guarded", 1e-3),
        ("guarded", 1e-4),
    ]


def test_axes_that_end_alike_are_told_apart(write: Write) -> None:
    text = f"{Path(write()).read_text()}matrix: {{rollouts.samples: [8], training.samples: [9]}}\n"
    assert one(write(text)).metadata.name == "one-rollouts-samples-8-training-samples-9"


def test_an_option_replaces_an_axis(write: Write) -> None:
    path = write("metadata: {name: a}\nspec: {task: {name: t}}\nmatrix: {task.mode: [x, y], seeds: [[0], [1]]}\n")
    found = load_experiments(path, ["task.mode=z"])
    assert [(e.metadata.name, e.spec.task.mode) for e in found] == [("a-seeds-0", "z"), ("a-seeds-1", "z")]


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ("[1]", "map paths to lists"),
        ("{task.mode: sia}", "give a list with at least one value"),
        ("{task.mode: []}", "give a list with at least one value"),
        ("{task.mode: [a, A]}", "the same name"),
        ("{task.name.x: [a]}", "holds no keys"),
        ("{'..': [a]}", "is no path"),
        ("{extends: [a]}", "cannot be set"),
        (f"{{seeds: [{', '.join(f'[{n}]' for n in range(300))}]}}", "gives 300 experiments"),
        ("{task.mod: [a]}", 'did you mean "mode"?'),
        ("{budget.generations: [1, x]}", 'found "x"'),
    ],
)
def test_a_wrong_matrix_is_placed(write: Write, matrix: str, words: str) -> None:
    found = problem(write(f"metadata: {{name: a}}\nspec: {{task: {{name: t}}}}\nmatrix: {matrix}\n"))
    assert found.startswith("spec.yaml:3:")
    assert words in found


PARTS = st.lists(st.one_of(st.from_regex(r"[A-Za-z_][\w-]{0,5}", fullmatch=True), st.integers(0, 99)), max_size=5)


@given(PARTS)
def test_a_shown_path_reads_back(parts: list[str | int]) -> None:
    path = ("spec", *(part if isinstance(part, int) or part.isascii() else "x" for part in parts))
    assert parse_path(show_path(path)) == path


TREES = st.recursive(
    st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
)


def tree(value: object, source: str) -> Node:
    mark = Mark(source, 1, 1)
    if isinstance(value, dict):
        return Node({key: tree(child, source) for key, child in value.items()}, mark, mark)
    return Node(value, mark, mark)  # type: ignore[arg-type]


@given(TREES, TREES, TREES)
def test_merging_is_associative_and_idempotent(a: object, b: object, c: object) -> None:
    one_, two, three = tree(a, "a"), tree(b, "b"), tree(c, "c")
    assert merge(merge(one_, two), two).plain() == merge(one_, two).plain()
    if all(isinstance(value, dict) for value in (a, b, c)):
        left, right = merge(merge(one_, two), three), merge(one_, merge(two, three))
        if not _mixed(a, b, c):
            assert left.plain() == right.plain()


def _mixed(*values: object) -> bool:
    """Tell whether some key is a map in one tree and a scalar in another, where the order counts."""
    maps = [value for value in values if isinstance(value, dict)]
    if maps and len(maps) < len(values):
        return True
    keys = {key for value in maps for key in value}
    return any(_mixed(*(value[key] for value in maps if key in value)) for key in keys)


INCLUDE = """\
metadata: {name: both}
spec: {seeds: [1, 2]}
matrix:
  include:
    small: {extends: one.yaml, spec: {budget: {wall: null}}}
    large: {extends: [one.yaml], metadata: {description: more}, spec: {task: {mode: sia}, seeds: [7]}}
"""
ONE = "metadata: {name: one}\nspec: {task: {name: denoise}, seeds: [0], budget: {wall: 5m, generations: 2}}\n"


def test_entries_lie_over_the_file_and_the_file_over_what_they_extend(write: Write) -> None:
    write(ONE, "specs/one.yaml")
    small, large = load_experiments(write(INCLUDE, "specs/both.yaml"))
    assert (small.metadata.name, small.spec.seeds) == ("both-small", (1, 2))
    assert (small.spec.budget.wall, small.spec.budget.generations) == (None, 2)
    assert (large.metadata.name, large.metadata.description, large.spec.seeds) == ("both-large", "more", (7,))
    assert (large.spec.task.mode, large.spec.budget.wall) == ("sia", 300.0)


def test_include_multiplies_with_axes_and_options_lie_over_all(write: Write) -> None:
    write(ONE, "one.yaml")
    path = write(INCLUDE + "  training.algorithm: [grpo, ppo]\n")
    found = load_experiments(path, ["seeds=[3]"])
    assert [e.metadata.name for e in found] == [
        f"both-{entry}-algorithm-{name}" for entry in ("small", "large") for name in ("grpo", "ppo")
    ]
    assert {e.spec.seeds for e in found} == {(3,)}


def test_a_file_with_include_may_be_extended_from_another_folder(write: Write) -> None:
    write(ONE, "specs/one.yaml")
    write(INCLUDE, "specs/both.yaml")
    top = write("extends: specs/both.yaml\nspec: {agents: {feedback: {type: learned}}}\n")
    assert [e.spec.agents.feedback.type for e in load_experiments(top)] == ["learned", "learned"]


def test_an_entry_means_what_the_same_words_in_a_file_of_their_own_mean(write: Write) -> None:
    write(ONE, "one.yaml")
    alone = one(write("extends: one.yaml\nmetadata: {name: both-small}\nspec: {seeds: [1, 2], budget: {wall: null}}\n"))
    assert load_experiments(write(INCLUDE, "both.yaml"))[0] == alone


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("[1]", "map names to what is different in each"),
        ("{}", "map names to what is different in each"),
        ("{Small: {}}", "lower-case letters"),
        ("{a: 3}", "is no map; it may have the keys extends, metadata, spec"),
        ("{a: {spce: {}}}", 'did you mean "spec"?'),
        ("{a: {metadata: {name: b}}}", "make the experiment's"),
        ("{a: {extends: none.yaml}}", "cannot read none.yaml"),
        ("{a: {spec: {seedz: [1]}}}", 'did you mean "seeds"?'),
    ],
)
def test_a_wrong_include_is_placed(write: Write, entry: str, words: str) -> None:
    found = problem(write(f"metadata: {{name: a}}\nspec: {{task: {{name: t}}}}\nmatrix: {{include: {entry}}}\n"))
    assert found.startswith("spec.yaml:3:")
    assert words in found


def test_a_file_with_include_needs_a_name(write: Write) -> None:
    write(ONE, "one.yaml")
    assert "metadata.name" in problem(write("matrix: {include: {a: {extends: one.yaml}}}\n"))
