"""Fields that are in no digest travel with a spec that somebody goes on with."""

from __future__ import annotations

import json
from pathlib import Path

from sia_flow.spec.load import load_experiments, resolved_json
from sia_flow.spec.places import whole_json

SPEC = """metadata: {name: there}
spec:
  task: {name: denoise}
  agents:
    meta: {type: anthropic, base_url: "http://127.0.0.1:9/", api_key_env: MINE}
    feedback:
      type: openai
      models:
        - {model: one, base_url: "http://127.0.0.1:1/v1", api_key_env: ONE}
        - {model: two, base_url: "http://127.0.0.1:2/v1"}
  policy: {base_url: "http://127.0.0.1:8/v1", adapters: /mnt/a, concurrency: 5}
  budget: {usd: $1, prices: {one: {input: 1, output: 2}, two: {input: 1, output: 3}}}
  spread: {jobs: 3}
  sandbox: {backend: podman, memory: 2GiB}
"""


def test_a_spec_written_whole_loads_as_the_same_experiment(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    (experiment,) = load_experiments(path, [])
    whole = whole_json(experiment)
    assert whole["spec"]["agents"]["feedback"]["models"][1]["base_url"] == "http://127.0.0.1:2/v1"
    path.write_text(json.dumps(whole))
    assert load_experiments(path, []) == [experiment]
    path.write_text(json.dumps(resolved_json(experiment)))
    (bare,) = load_experiments(path, [])
    assert bare != experiment
    assert (bare.spec.spread, bare.spec.budget.prices) == (None, {})
    assert (experiment.spec.sandbox.backend, bare.spec.sandbox.backend) == ("podman", "auto")


def test_what_is_not_set_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("metadata: {name: here}\nspec: {task: {name: denoise}}\n")
    (experiment,) = load_experiments(path, [])
    assert whole_json(experiment) == resolved_json(experiment)
