"""A Prefect server with scheduler and a worker, on a project of a test's own, and the interface that its pages use."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sia_flow.track.environment import quiet_environment
from sia_flow.track.server import PrefectServer
from sia_flow.track.service import Service
from tests.flows.warm import QUIET, ROOT


class Patient(httpx.HTTPTransport):
    """Asks again, as Prefect's own client does, where the server is busy writing and answers 503."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(60):
            reply = super().handle_request(request)
            if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return reply
            reply.close()
            time.sleep(0.5)
        return super().handle_request(request)


class Api:
    """The server's HTTP interface, as its pages use it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=60, transport=Patient())

    def post(self, path: str, body: Any) -> Any:
        reply = self._client.post(path, json=body)
        reply.raise_for_status()
        return reply.json()

    def get(self, path: str) -> Any:
        reply = self._client.get(path)
        reply.raise_for_status()
        return reply.json()

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Return the runs of a deployment, its sub-flows left out."""
        chosen = {"deployments": {"name": {"any_": [deployment]}}, "limit": 200}
        return list(self.post("/flow_runs/filter", chosen))

    def told(self) -> str:
        """Return what every run is doing, for a failure's message."""
        runs = self.post("/flow_runs/filter", {"limit": 200})
        return "\n".join(f"{run['name']}: {run['state']['name']} {run['state']['message'] or ''}" for run in runs)

    def states(self, deployment: str) -> Counter[str]:
        return Counter(run["state"]["type"] for run in self.runs(deployment))

    def deployment(self, name: str) -> dict[str, Any]:
        (found,) = self.post("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return dict(found)


def environment_of(root: Path) -> dict[str, str]:
    """Return the environment of a server and a worker: nothing of the user's Prefect, and no tracker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    own = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "sqlite:////dev/null/no"}
    return kept | QUIET | own | quiet_environment(root / ".sia-flow", kept)


@contextmanager
def serving(root: Path, environment: Mapping[str, str]) -> Iterator[Api]:
    """Run a server for the length of the block; this process uses it, too."""
    with (
        PrefectServer(root / ".sia-flow", full=True, environ=environment) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in ({**environment, "PREFECT_API_URL": server.wait()}).items():
            patch.setenv(name, value)
        yield Api(server.wait())


@contextmanager
def working(
    root: Path, api: Api, environment: Mapping[str, str], pool: str = "sia-flow", kind: str = "process"
) -> Iterator[Service]:
    """Run a worker for the length of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = Service("worker", f"http://127.0.0.1:{port}/health", root / ".sia-flow/worker.log")
    web = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    arguments = ["worker", "start", "--pool", pool, "--type", kind, "--with-healthcheck"]
    service.start("prefect", arguments, {**environment, **web, "PREFECT_API_URL": api.url})
    try:
        service.wait(120)
        yield service
    finally:
        service.stop()
