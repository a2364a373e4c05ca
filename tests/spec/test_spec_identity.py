"""Identity: what changes a result changes the digest, nothing else does; and what a changed spec means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sia_flow.spec.load import diff_specs, experiment_digest, load_experiments, resolved_json
from sia_flow.spec.models import Experiment

Write = Callable[..., Path]


def loaded(write: Write, *overrides: str) -> Experiment:
    return load_experiments(write(), overrides)[0]


def test_the_resolved_spec_is_json_that_reads_back(write: Write) -> None:
    experiment = loaded(write, "budget.wall=10m", "sandbox.memory=2GiB", "arms=[SIA-W]")
    resolved = json.loads(json.dumps(resolved_json(experiment)))
    assert resolved["spec"]["budget"]["wall"] == 600.0
    assert resolved["spec"]["sandbox"]["memory"] == 2 << 30
    assert resolved["spec"]["arms"] == [{"name": "SIA-W", "levers": ["weights"], "control": None}]
    assert Experiment.model_validate(resolved) == experiment


def test_two_spellings_of_one_experiment_have_one_digest(write: Write) -> None:
    short = loaded(write)
    spelled = loaded(write, "arms=[SIA-H, SIA-W+H]", "sandbox.wall=10s", "sandbox.memory=1GiB", "training.clip=2e-1")
    assert experiment_digest(short) == experiment_digest(spelled)


@pytest.mark.parametrize("override", ["sandbox.backend=podman", "sandbox.backend=auto", "spread={jobs: 2}"])
def test_what_it_runs_by_is_no_part_of_an_experiment(write: Write, override: str) -> None:
    old, new = loaded(write), loaded(write, override)
    assert experiment_digest(old) == experiment_digest(new)
    assert resolved_json(old) == resolved_json(new)


@pytest.mark.parametrize(
    "override",
    ["metadata.description=x", "metadata.labels={a: b}", "track.traces=0", "schedule={interval: 1h}", "approve={}"],
)
def test_what_changes_no_result_keeps_the_digest_and_extends(write: Write, override: str) -> None:
    old, new = loaded(write), loaded(write, override)
    assert experiment_digest(old) == experiment_digest(new)
    changes = diff_specs(resolved_json(old), resolved_json(new))
    assert [change.effect for change in changes] == ["extends"]


@pytest.mark.parametrize(
    ("override", "path", "effect"),
    [
        ("seeds=[1, 0]", "spec.seeds", "extends"),
        ("seeds=[1]", "spec.seeds", "new run"),
        ("arms=[SIA-W, SIA-W+H, SIA-H]", "spec.arms", "extends"),
        ("arms=[SIA-H]", "spec.arms", "new run"),
        ("budget.generations=7", "spec.budget.generations", "extends"),
        ("budget.generations=5", "spec.budget.generations", "new run"),
        ("budget.wall=1h", "spec.budget.wall", "new run"),
        ("budget.usd=$3", "spec.budget.usd", "extends"),
        ("training.kl=0", "spec.training.kl", "new run"),
        ("task.mode=sia", "spec.task.mode", "new run"),
        ("metadata.name=two", "metadata.name", "new run"),
        ("verify.sealed.samples=64", "spec.verify.sealed.samples", "new run"),
    ],
)
def test_a_change_says_what_it_means(write: Write, override: str, path: str, effect: str) -> None:
    old, new = loaded(write), loaded(write, override)
    (change,) = diff_specs(resolved_json(old), resolved_json(new))
    assert (change.path, change.effect) == (path, effect)
    assert experiment_digest(old) != experiment_digest(new)


def test_dropping_a_limit_extends(write: Write) -> None:
    limited = resolved_json(loaded(write, "budget={wall: 1h, tokens: 5, usd: $3}"))
    free = resolved_json(loaded(write, "budget={usd: unlimited}"))
    assert {change.effect for change in diff_specs(limited, free)} == {"extends"}
    assert {change.effect for change in diff_specs(free, limited)} == {"new run"}


def test_an_equal_spec_has_no_changes(write: Write) -> None:
    resolved: dict[str, Any] = resolved_json(loaded(write))
    assert diff_specs(resolved, json.loads(json.dumps(resolved))) == []
