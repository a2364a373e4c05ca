"""Sampling from a server that is not ours: `transformers serve` on the CPU with the tiny base."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sia_flow.errors import SpecError
from sia_flow.policy.endpoint import Endpoint
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.rows import TokenRows
from sia_flow.policy.served import ServedPolicy
from tests.policy.world import moved, request_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("serve")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(base), "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--attn-implementation", "eager"]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait(f"http://127.0.0.1:{port}/health", process, home / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start: {log.read_text()[-1000:]}")


def test_what_it_says_is_scored_again_and_adapters_are_refused(address: str, base: Path, tmp_path: Path) -> None:
    local = LocalPolicy.load(base)
    served = ServedPolicy.connect(Endpoint(address, str(base), concurrency=2), base, tmp_path, lambda: local)
    ((first, second), (third,)) = served.sample([request_for(n=2, seed=1), request_for("Write denoise.", seed=2)])
    assert all(completion.rescored and completion.text for completion in (first, second, third))
    assert "def denoise" in first.text
    own = local.logprobs(TokenRows.of([first, second, third])).tolist()
    for line, completion in zip(own, (first, second, third), strict=True):
        assert completion.logprobs == pytest.approx(line[: len(completion.completion_ids)], abs=1e-5)
    moved(base).save_adapter(tmp_path / "adapter")
    with pytest.raises(SpecError, match="loads no adapters"):
        served.use_folder(tmp_path / "adapter")
