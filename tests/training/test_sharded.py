"""The base split over two processes on this machine's CPU: the adapter comes out as in one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sia_flow.errors import TrainingError
from sia_flow.lineage.jsonl import dump_lines
from sia_flow.lineage.records import Turn
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.tiny import TinyConfig, build_tiny
from sia_flow.policy.warmup import Schedule
from tests.policy.world import corpus, request_for
from tests.training.sharded_pull import ROOT, train

ALGORITHMS = ("grpo", "dpo")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(corpus(0, 200), folder, TinyConfig(pieces=64, schedule=Schedule(steps=30, batch=16, learning_rate=1e-2)))
    return folder


@pytest.fixture(scope="module")
def episodes(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = LocalPolicy.load(base)
    requests = [request_for(f"Write {name}.", n=5, seed=i, max_tokens=24) for i, name in enumerate(("one", "another"))]
    turns = [
        Turn(
            messages=request.messages,
            temperature=1.0,
            policy="",
            **{key: getattr(one, key) for key in ("text", "prompt_ids", "completion_ids", "logprobs", "finish")},
        )
        for request, found in zip(requests, policy.sample(requests), strict=True)
        for one in found
    ]
    file = tmp_path_factory.mktemp("episodes") / "turns.jsonl"
    file.write_bytes(dump_lines(turns))
    return file


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(folder: Path, *arguments: str) -> None:
    """Start two processes on the CPU by the profile that ships."""
    profile = (ROOT / "flows/accelerate/fsdp2.yaml").read_text()
    profile = profile.replace("use_cpu: false", "use_cpu: true").replace("num_processes: 8", "num_processes: 2")
    (folder / "profile.yaml").write_text(profile)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(folder / "profile.yaml")]
    command += ["--main_process_port", str(free_port()), str(ROOT / "tests/training/sharded_pull.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_train_the_adapter_of_one(base: Path, episodes: Path, tmp_path: Path) -> None:
    launch(tmp_path, str(base), str(episodes), str(tmp_path / "two"), *ALGORITHMS)
    for algorithm in ALGORITHMS:
        alone = train(base, episodes, tmp_path / "one" / algorithm, "peft", algorithm)
        assert (alone.status, alone.updates) == ("ok", 4)
        one = load_file(alone.adapter / "adapter_model.safetensors")
        two = load_file(tmp_path / "two" / algorithm / "adapter" / "adapter_model.safetensors")
        assert one.keys() == two.keys()
        assert max(float(tensor.abs().max()) for name, tensor in one.items() if "lora_B" in name) > 1e-2
        assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def test_one_process_is_told_how_to_start_several(base: Path, episodes: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="accelerate launch"):
        train(base, episodes, tmp_path, "fsdp", "grpo")
    with pytest.raises(TrainingError, match="no critic"):
        train(base, episodes, tmp_path, "fsdp", "ppo")
    assert not torch.distributed.is_initialized()
