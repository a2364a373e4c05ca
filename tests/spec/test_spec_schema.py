"""The JSON Schema says what the loader does, and `explain` says what the schema does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from sia_flow.errors import SpecError
from sia_flow.spec.explain import explain
from sia_flow.spec.load import load_experiments
from sia_flow.spec.loop import MINIMUM_GROUP
from sia_flow.spec.paths import show_path
from sia_flow.spec.problems import InvalidSpecError
from sia_flow.spec.schema import json_schema, schema_at, walk
from sia_flow.training.algorithms import ALGORITHMS

Write = Callable[..., Path]

SPECS = {
    "{}": True,
    "arms: [SIA-H, {name: x, levers: [weights]}]": True,
    "arms: [SIA-Q]": False,
    "arms: SIA-H": False,
    "budget: {wall: 30m, usd: unlimited}": True,
    "budget: {wall: 90}": True,
    "budget: {wall: later}": False,
    "budget: {usd: $5}": True,
    "budget: {generations: 0}": False,
    "budget: {generation: 1}": False,
    "sandbox: {memory: 2GiB, minimum_level: 2}": True,
    "sandbox: {memory: 2 potatoes}": False,
    "sandbox: {minimum_level: 4}": False,
    "sandbox: {network: [api.example.org, {url: data.example.org, at: [10.0.0.0/8]}]}": True,
    "sandbox: {network: api.example.org}": False,
    "sandbox: {network: [{at: [10.0.0.0/8]}]}": False,
    "sandbox: {backend: podman}": True,
    "sandbox: {backend: docker}": False,
    "seeds: [0, 1]": True,
    "seeds: [a]": False,
    "seeds: []": False,
    "schedule: {cron: '0 3 * * 1'}": True,
    "reuse: none": True,
    "reuse: {c: 0.5, share: 1.0}": True,
    "reuse: punct": False,
    "reuse: {share: 0}": False,
    "training: {clip: 1.0}": False,
    "training: {learning_rate: 0.5, algorithm: dpo}": True,
    "track: {uri: ''}": False,
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("text", SPECS)
def test_schema_and_loader_agree(write: Write, validator: Draft202012Validator, text: str) -> None:
    spec: dict[str, Any] = {"task": {"name": "denoise"}, **yaml.safe_load(text)}
    document = {"metadata": {"name": "a"}, "spec": spec}
    assert validator.is_valid(document) is SPECS[text]
    path = write(yaml.safe_dump(document))
    if SPECS[text]:
        assert load_experiments(path)
    else:
        with pytest.raises(InvalidSpecError):
            load_experiments(path)


def test_a_file_that_extends_may_leave_things_out(validator: Draft202012Validator) -> None:
    assert validator.is_valid({"extends": "base.yaml", "spec": {"seeds": [1]}})
    assert not validator.is_valid({"spec": {"seeds": [1]}})
    assert not validator.is_valid({"metadata": {"name": "a"}, "spec": {"seeds": [1]}})
    assert not validator.is_valid({"metadata": {"name": "a"}, "spec": {"task": {}}})


def test_the_spec_that_ships_fits_the_schema(validator: Draft202012Validator) -> None:
    for path in sorted((Path(__file__).resolve().parents[2] / "specs").glob("*.yaml")):
        assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []


def test_every_key_has_a_description_and_an_explanation() -> None:
    paths = list(walk())
    assert ("spec", "arms", "levers") in paths
    assert ("spec", "policy", "lora", "rank") in paths
    for path in paths:
        found = explain(show_path(path))
        assert found.description.endswith("."), path
        assert found.type, path
        assert schema_at(path) is not None


EXAMPLES = [path for path in walk() if path[0] == "spec" and path[:2] != ("spec", "schedule") and len(path) > 1]


@pytest.mark.parametrize("path", EXAMPLES, ids=show_path)
def test_every_example_is_valid(write: Write, path: tuple[str, ...]) -> None:
    example = yaml.safe_load(explain(show_path(path)).example)
    spec = {"task": {"name": "denoise"}}
    for key, value in example.items():
        spec[key] = {**spec.get(key, {}), **value} if isinstance(value, dict) else value
    assert load_experiments(write(yaml.safe_dump({"metadata": {"name": "a"}, "spec": spec})))


def test_explain_a_value_with_a_unit() -> None:
    found = explain("budget.usd")
    assert (found.path, found.required, found.default) == ("spec.budget.usd", False, "null")
    assert "unlimited" in found.forms
    assert found.example == "budget: {usd: $5}"
    assert explain("spec.budget.usd") == found


def test_explain_a_choice_a_number_and_a_list() -> None:
    assert explain("training.algorithm").allowed == ("auto", *ALGORITHMS)
    assert explain("sandbox.minimum_level").range == "at least 0, at most 3"
    assert explain("arms[0].levers").allowed == ("harness", "weights")
    assert explain("arms").default == '["SIA-H", "SIA-W+H"]'
    assert explain("task.name").required
    assert explain("matrix").description


def test_explain_a_section_lists_its_keys() -> None:
    names = [field.name for field in explain("budget").fields]
    assert names[:5] == ["generations", "wall", "rollouts", "tokens", "usd"]
    assert "SIA-W+H" in explain("arms").allowed


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("budjet", "spec.budget"),
        ("lr", "spec.training.learning_rate"),
        ("budget.mode", "spec.task.mode"),
        ("..", "path"),
    ],
)
def test_explain_an_unknown_key_hints(path: str, hint: str) -> None:
    with pytest.raises(SpecError, match=hint):
        explain(path)


def test_the_algorithms_of_the_spec_are_those_that_training_has() -> None:
    assert set(MINIMUM_GROUP) == {"auto", *ALGORITHMS}
    assert all(MINIMUM_GROUP[name] == algorithm.min_group for name, algorithm in ALGORITHMS.items())
    assert MINIMUM_GROUP["auto"] == max(algorithm.min_group for algorithm in ALGORITHMS.values())
