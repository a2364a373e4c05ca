"""Granted services: spelt in one way, refused where they open more than they say, part of what an experiment is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sia_flow.spec.load import diff_specs, experiment_digest, load_experiments, resolved_json
from sia_flow.spec.models import Experiment
from sia_flow.spec.problems import InvalidSpecError

Write = Callable[..., Path]


def loaded(write: Write, *network: Any) -> Experiment:
    spec: dict[str, Any] = {"task": {"name": "denoise"}, "sandbox": {"network": list(network)}}
    return load_experiments(write(yaml.safe_dump({"metadata": {"name": "one"}, "spec": spec})))[0]


def urls(experiment: Experiment) -> list[str]:
    return [entry.url for entry in experiment.spec.sandbox.network]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("api.example.org", "https://api.example.org/"),
        ("API.example.org:443/", "https://api.example.org/"),
        ("api.example.org:8443/v2", "https://api.example.org:8443/v2"),
        ("http://api.example.org", "http://api.example.org/"),
        ("https://docs.example.org:8443/path-prefix/", "https://docs.example.org:8443/path-prefix/"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("http://[::1]:8000", "http://[::1]:8000/"),
        ("http://10.1.2.3", "http://10.1.2.3/"),
    ],
)
def test_an_entry_is_https_unless_it_says_otherwise(write: Write, text: str, url: str) -> None:
    assert urls(loaded(write, text)) == [url]
    assert urls(loaded(write, {"url": text})) == [url]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("*", "has a wildcard; name each host by itself: write for example api.example.org"),
        ("*.example.org", "has a wildcard"),
        ("https://*/", "has a wildcard"),
        ("ftp://example.org", "must begin with https://HOST or http://HOST"),
        ("https://me:secret@example.org", "user name or a password"),
        ("example.org.", "drop the dot at the end"),
        ("b\u00fccher.example", "xn--"),
        ("example.org/a/../b", "segment"),
        ("example.org?q=1", "drop what begins with ? or #"),
        ("example.org/#a", "drop what begins with ? or #"),
        ("http://localhost:8000", "write its address: http://127.0.0.1:8000"),
        ("http://127.1:8000", "four plain numbers"),
        ("http://169.254.169.254", "169.254.169.254 cannot be granted"),
        ("http://169.254.1.1", "cannot be granted"),
        ("http://100.100.100.200", "cannot be granted"),
        ("http://0.0.0.0:8000", "cannot be granted"),
        ("http://224.0.0.1", "cannot be granted"),
        ("http://[fe80::1]", "cannot be granted"),
        ({"url": "data.example.org", "at": ["0.0.0.0/0"]}, "no private network"),
        ({"url": "data.example.org", "at": ["169.254.0.0/16"]}, "no private network"),
        ({"url": "data.example.org", "at": ["10.0.0.1/8"]}, "no network of addresses"),
        ({"url": "data.example.org", "at": ["data.example.org"]}, "no network of addresses"),
        ({"url": "http://10.0.0.1", "at": ["10.0.0.0/8"]}, "drop at"),
        ({"at": ["10.0.0.0/8"]}, "is required"),
        ({"url": "example.org", "method": "POST"}, "unknown key"),
        (5, "expected a map"),
    ],
)
def test_what_opens_more_than_it_says_is_refused(write: Write, entry: Any, words: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        loaded(write, entry)
    (line,) = str(caught.value).splitlines()
    assert "spec.sandbox.network[0]" in line
    assert words in line


def test_an_entry_that_stands_twice_is_refused_at_its_place(write: Write) -> None:
    with pytest.raises(InvalidSpecError, match=r"network\[2\]: https://a\.example/ is granted already; drop it"):
        loaded(write, "a.example", "b.example", "https://A.example:443")


def test_nothing_granted_is_not_in_the_resolved_spec(write: Write) -> None:
    bare = load_experiments(write())[0]
    assert "network" not in resolved_json(bare)["spec"]["sandbox"]
    assert experiment_digest(loaded(write)) == experiment_digest(bare)


def test_grants_are_part_of_what_an_experiment_is(write: Write) -> None:
    bare, one = loaded(write), loaded(write, "a.example")
    two, other = loaded(write, "b.example", "a.example"), loaded(write, {"url": "a.example", "at": ["10.0.0.0/8"]})
    assert len({experiment_digest(experiment) for experiment in (bare, one, two, other)}) == 4
    assert experiment_digest(two) == experiment_digest(loaded(write, "https://a.example/", "https://b.example:443"))
    (change,) = diff_specs(resolved_json(bare), resolved_json(one))
    assert (change.path, change.effect) == ("spec.sandbox.network", "new run")
    assert Experiment.model_validate(resolved_json(other)) == other
