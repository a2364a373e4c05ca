"""The work pool of a spec: what a Job needs, what a process has no use for, and that it changes no result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sia_flow.spec.load import experiment_digest, load_experiments, resolved_json
from sia_flow.spec.models import Experiment
from sia_flow.spec.places import whole_json
from sia_flow.spec.problems import InvalidSpecError

Write = Callable[..., Path]
JOB = "pool={type: kubernetes, image: i, store: /mnt/s}"


def loaded(write: Write, *overrides: str) -> Experiment:
    return load_experiments(write(), overrides)[0]


def test_a_pool_of_jobs_has_an_image_and_a_place_for_the_records(write: Write) -> None:
    pool = loaded(write, JOB, "pool.memory=2GiB", "pool.gpus=1", "pool.cpus=0.5").spec.pool
    assert pool is not None
    assert (pool.project, pool.namespace, pool.memory, pool.gpus) == ("/project", "default", 2 << 30, 1)
    claimed = loaded(write, "pool={type: kubernetes, image: i, claim: c}").spec.pool
    assert claimed is not None
    assert claimed.store is None


def test_runs_as_processes_may_carry_their_records_too(write: Write) -> None:
    for override in ("pool={store: /mnt/s}", "pool={type: process}", "pool={}"):
        pool = loaded(write, override).spec.pool
        assert pool is not None
        assert pool.type == "process"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pool={type: kubernetes, store: /mnt/s}", "spec.pool.image: a Job needs an image with Python and sia-flow"),
        ("pool={type: kubernetes, image: i}", "spec.pool: needs claim or store: what a pod wrote is gone with it"),
        ("pool={image: i}", "spec.pool.image: is for pools of type kubernetes alone"),
        ("pool={store: /mnt/s, gpus: 1}", "spec.pool.gpus: is for pools of type kubernetes alone"),
        ("pool={type: process, secret: s}", "spec.pool.secret: is for pools of type kubernetes alone"),
        ("pool={type: kubernetes, image: i, claim: No_Name}", "spec.pool.claim"),
        ("pool={type: kubernetes, image: i, claim: c, project: here}", "spec.pool.project"),
        ("pool={type: kubernetes, image: i, claim: c, gpus: 0}", "spec.pool.gpus"),
        ("pool={type: kubernetes, image: i, claim: c, memory: many}", "spec.pool.memory"),
        ("pool={type: modal}", "spec.pool.type"),
        ("pool={type: kubernetes, image: i, clam: c}", 'did you mean "claim"'),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(write: Write, override: str, words: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        loaded(write, override)
    assert words in str(caught.value)


@pytest.mark.parametrize("override", [JOB, "pool={store: /mnt/s}", "pool={}"])
def test_a_pool_changes_no_digest_and_travels_with_a_spec(write: Write, override: str) -> None:
    old, new = loaded(write), loaded(write, override)
    assert experiment_digest(old) == experiment_digest(new)
    assert resolved_json(old) == resolved_json(new)
    assert load_experiments(write(json.dumps(whole_json(new))))[0] == new
