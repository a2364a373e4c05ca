"""Properties: no text makes the loader fail in a way of its own, and every position points at its value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.errors import SpecError
from sia_flow.spec.arms import SHORT_ARMS
from sia_flow.spec.load import experiment_digest, load_experiments, resolved_json
from sia_flow.spec.models import Arm, Experiment
from sia_flow.spec.nodes import Node
from sia_flow.spec.syntax import parse_yaml
from sia_flow.spec.validate import build_experiment

SHIPPED = (Path(__file__).resolve().parents[2] / "specs" / "denoise.yaml").read_text(encoding="utf-8")
KEYS = st.sampled_from(
    ["spec", "metadata", "name", "task", "arms", "seeds", "budget", "wall", "matrix", "extends", "x"]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["SIA-H", "10m", "$5", "unlimited", "sia-flow/v1", "a b"]),
)
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def attempt(folder: Path, text: str) -> tuple[list[Experiment], str]:
    """Load a text; the only failure allowed is a message to the user, which is returned."""
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        return load_experiments(path), ""
    except SpecError as error:
        return [], str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specs")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_spec_loads_or_says_why(folder: Path, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(SHIPPED)))
    gone = data.draw(st.integers(0, 30))
    added = data.draw(st.text(max_size=6) | st.sampled_from(["\t", "&a ", "*a", "!!python/name:x ", "{", "- ", ": "]))
    experiments, message = attempt(folder, SHIPPED[:place] + added + SHIPPED[place + gone :])
    assert bool(experiments) != bool(message)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
def test_any_document_loads_or_says_why(folder: Path, document: object) -> None:
    experiments, message = attempt(folder, yaml.safe_dump(document, allow_unicode=True))
    assert bool(experiments) != bool(message)


TREES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=3))
def test_every_position_points_at_its_value(document: dict[str, object]) -> None:
    text = yaml.safe_dump(document)
    lines = text.splitlines()
    for name, node in _entries(parse_yaml(text, "f").root):
        assert lines[node.key.line - 1][node.key.column - 1 :].startswith(name)
        if isinstance(node.value, int):
            assert lines[node.mark.line - 1][node.mark.column - 1 :].startswith(str(node.value))


def _entries(node: Node) -> Iterator[tuple[str, Node]]:
    for name, child in node.children().items():
        yield name, child
        yield from _entries(child)
    for item in node.value if isinstance(node.value, tuple) else ():
        yield from _entries(item)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(sorted(SHORT_ARMS)), min_size=1, unique=True),
    st.integers(3, 64),
    st.floats(1e-6, 1.0),
)
def test_a_resolved_spec_describes_the_same_experiment(
    seeds: list[int], arms: list[str], samples: int, rate: float
) -> None:
    spec = {
        "task": {"name": "t"},
        # An arm `unaided` needs a model.
        "agents": {"feedback": {"type": "anthropic"}},
        "seeds": seeds,
        # At least one that does not wait for what another one spends.
        "arms": arms if "SIA-H" in arms else ["SIA-H", *arms],
        "training": {"samples": samples, "learning_rate": rate},
    }
    experiment = Experiment.model_validate({"metadata": {"name": "a"}, "spec": spec})
    text = yaml.safe_dump(resolved_json(experiment))
    again = build_experiment(parse_yaml(text, "f").root)
    assert again == experiment
    assert experiment_digest(again) == experiment_digest(experiment)


@pytest.mark.parametrize(
    ("name", "levers", "control"),
    [
        ("SIA-H", ("harness",), None),
        ("SIA-W", ("weights",), None),
        ("SIA-W+H", ("harness", "weights"), None),
        ("best-of-n", (), "best-of-n"),
        ("no-feedback", ("harness",), "no-feedback"),
    ],
)
def test_a_short_name_is_an_arm(name: str, levers: tuple[str, ...], control: str | None) -> None:
    arm = Arm.model_validate(name)
    assert (arm.name, arm.levers, arm.control) == (name, levers, control)
    assert Arm(name=name, levers=levers, control=control) == arm  # type: ignore[arg-type]
