"""gpt-oss with its real layer types at a reduced width, and its 4-bit weights: sampled, trained, saved, loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sia_flow.errors import SpecError
from sia_flow.lineage.records import Turn
from sia_flow.plan.shape import PUBLISHED, read_shape
from sia_flow.policy import quantised
from sia_flow.policy.adapters import LoraConfig
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.rows import TokenRows
from sia_flow.training.trainer import pull
from sia_flow.training.types import Episode, PullConfig
from tests.policy.reduced import build, pack
from tests.policy.world import request_for

LONG = "word " * 30
"""A prompt longer than the sliding window."""


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return build(tmp_path_factory.mktemp("reduced") / "gpt-oss", base)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, reduced: Path) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("packed") / "gpt-oss"
    return folder, pack(reduced, folder)


def episodes(policy: LocalPolicy, seed: int) -> list[Episode]:
    """Sample long and short prompts; pay for a token that the model is free to choose."""
    found = []
    for group, prompt in (("long", LONG), ("short", "word")):
        request = request_for(prompt, n=4, seed=seed, max_tokens=12)
        for i, one in enumerate(policy.sample([request])[0]):
            fields = {key: getattr(one, key) for key in ("text", "prompt_ids", "completion_ids", "logprobs", "finish")}
            turn = Turn(messages=request.messages, temperature=1.0, policy=policy.version, **fields)
            found.append(Episode(group, (turn,), float(i % 2), valid=True))
    return found


def test_the_config_is_the_published_one_but_for_its_width(reduced: Path) -> None:
    shape, real = read_shape(reduced), PUBLISHED["gpt-oss-20b"]
    for name in ("head_dim", "experts", "active", "window", "attention_bias"):
        assert getattr(shape, name) == getattr(real, name), name
    assert (shape.sliding, shape.layers) == (1, 2)
    assert json.loads((reduced / "config.json").read_text())["rope_parameters"]["rope_type"] == "yarn"


def test_what_is_sampled_past_the_window_is_what_the_trainer_computes(reduced: Path) -> None:
    policy = LocalPolicy.load(reduced)
    (found,) = policy.sample([request_for(LONG, n=3, max_tokens=8)])
    assert len(found[0].prompt_ids) > 128
    table = policy.logprobs(TokenRows.of(found)).tolist()
    gaps = [abs(a - b) for line, c in zip(table, found, strict=True) for a, b in zip(line, c.logprobs, strict=False)]
    assert max(gaps) < 1e-4


@pytest.mark.parametrize("targets", [("attention",), ("attention", "experts")])
def test_an_iteration_of_training_saves_an_adapter_that_loads(reduced: Path, tmp_path: Path, targets) -> None:
    policy = LocalPolicy.load(reduced, lora=LoraConfig(rank=4, alpha=8, targets=targets), trainable=True)
    start = policy.version
    update = pull(
        policy, lambda _, seed: episodes(policy, seed), PullConfig(iterations=1, learning_rate=1e-2), tmp_path
    )
    assert (update.status, update.updates > 0) == ("ok", True)
    assert policy.version != start
    assert update.steps[0]["sampler_gap"] < 1e-3
    loaded = LocalPolicy.load(reduced, adapter=update.adapter)
    assert loaded.version == policy.version
    request = request_for("word", n=2, max_tokens=6)
    assert loaded.sample([request]) == policy.sample([request])


def test_four_bit_experts_are_unpacked_to_what_they_stand_for(packed) -> None:
    folder, expected = packed
    policy = LocalPolicy.load(folder)
    found = dict(policy.model.named_parameters())
    assert expected
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), values)


def test_an_adapter_is_trained_on_four_bit_experts(packed, tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, alpha=8)
    policy = LocalPolicy.load(packed[0], lora=lora, trainable=True)
    update = pull(
        policy, lambda _, seed: episodes(policy, seed), PullConfig(iterations=1, learning_rate=1e-2), tmp_path
    )
    assert update.status == "ok"
    assert LocalPolicy.load(packed[0], adapter=update.adapter).version == policy.version


def test_the_size_in_memory_is_known_before_loading(packed, reduced: Path) -> None:
    folder, expected = packed
    policy = LocalPolicy.load(folder)
    real = sum(parameter.numel() for parameter in policy.model.parameters())
    assert quantised.loaded_bytes(folder, 4) == quantised.loaded_bytes(reduced, None) == 4 * real
    assert quantised.loaded_bytes(folder, None) == 2 * real
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 2 * real
    assert expected


def test_what_cannot_be_trained_is_refused(reduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = build(tmp_path / "other", reduced)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(SpecError, match=r"quantised by awq.*convert"):
        LocalPolicy.load(other)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable: 100 kB\n")
    monkeypatch.setattr(quantised, "_MEMINFO", meminfo)
    with pytest.raises(SpecError, match=r"where 0\.0 GiB are free"):
        LocalPolicy.load(reduced)
    (other / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(SpecError, match="cut off"):
        quantised.loaded_bytes(other, None)
