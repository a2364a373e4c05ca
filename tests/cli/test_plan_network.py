"""`sia-flow plan` says what scaffolds could read before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.ops_world import call
from tests.flows.world import make_project

GRANT = ("--set", "sandbox.network=[api.example.org]")


def test_plan_names_what_is_granted_and_what_that_means_for_sealed(tmp_path: Path) -> None:
    root = make_project(tmp_path, started=False).parents[1]
    words = " ".join(call(root, "plan", "specs/small.yaml", *GRANT, code=2).split())
    assert "Scaffolds may read https://api.example.org/ through the host, on every split" in words
    assert "answers of the sealed split included" in words
    assert json.loads(call(root, "plan", "specs/small.yaml", "--json", *GRANT, code=2))["network"] == [
        "https://api.example.org/"
    ]
    assert "through the host" not in call(root, "plan", "specs/small.yaml", code=2)
    assert "network" not in json.loads(call(root, "plan", "specs/small.yaml", "--json", code=2))
