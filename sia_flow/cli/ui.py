"""`sia-flow ui`: the pages of Prefect and MLflow over this project's databases, and a worker, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sia_flow.errors import InfrastructureError
from sia_flow.files import write_atomic

if TYPE_CHECKING:
    from sia_flow.plan.project import Project
    from sia_flow.track.server import PrefectServer
    from sia_flow.track.service import Service

HOST = "127.0.0.1"
START_SECONDS = 120.0


def command(
    *,
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's pages.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's pages.")] = 5000,
    directory: Annotated[
        Path | None, typer.Option("--directory", "-C", help="The project; by default the one around here.")
    ] = None,
    worker: Annotated[bool, typer.Option(help="Also run what is deployed (`sia-flow deploy`).")] = True,
) -> None:
    """Serve the Prefect and MLflow pages of this project, and run what is deployed there; Ctrl-C ends all.

    Where PREFECT_API_URL or MLFLOW_TRACKING_URI names a server of yours, that one is used and none is started; then
    start workers yourself: `prefect worker start --pool sia-flow`.
    """
    from sia_flow.plan.project import Project

    project = Project.find(directory)
    with ExitStack() as stack:
        stack.enter_context(_ending_politely())
        prefect = _prefect(project, prefect_port)
        mlflow = _mlflow(project, mlflow_port)
        runner = _worker(project) if prefect and worker else None
        for server in (prefect, mlflow, runner):
            stack.callback(server.stop) if server else None
        _begin(project, prefect, mlflow, mlflow_port)
        if prefect:
            write_atomic(project.state / "ui.json", json.dumps({"api": prefect.wait()}).encode())
        _announce(prefect, prefect_port, mlflow, mlflow_port)
        if prefect and runner:
            _begin_worker(runner, prefect)
        watched = [server for server in (prefect, mlflow, runner) if server]
        while watched and all(server.running for server in watched):
            time.sleep(0.2)
    if watched:
        raise InfrastructureError(f"a server ended by itself; see the logs in {project.state}")


def _prefect(project: Project, port: int) -> PrefectServer | None:
    from sia_flow.track.environment import profile_server
    from sia_flow.track.server import PrefectServer

    if profile_server(os.environ):
        return None
    _require(port, "--prefect-port")
    return PrefectServer(project.state, port=port, full=True, timeout=START_SECONDS)


def _mlflow(project: Project, port: int) -> Service | None:
    from sia_flow.track.service import Service

    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    _require(port, "--mlflow-port")
    return Service("MLflow server", f"http://{HOST}:{port}/health", project.state / "mlflow-server.log")


def _worker(project: Project) -> Service:
    from sia_flow.track.service import Service

    port = free_port()
    return Service("Prefect worker", f"http://{HOST}:{port}/health", project.state / "worker.log")


def _begin_worker(runner: Service, prefect: PrefectServer) -> None:
    from sia_flow.track.deployments import POOL

    port = runner.health.rsplit(":", 1)[1].removesuffix("/health")
    own = {"PREFECT_WORKER_WEBSERVER_HOST": HOST, "PREFECT_WORKER_WEBSERVER_PORT": port}
    arguments = ["worker", "start", "--pool", POOL, "--type", "process", "--with-healthcheck"]
    runner.start("prefect", arguments, prefect.variables() | own)
    runner.wait(START_SECONDS)
    typer.echo(f"Worker:  runs the deployments of the pool {POOL}; its log is {runner.log}")


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _begin(project: Project, prefect: PrefectServer | None, mlflow: Service | None, port: int) -> None:
    from sia_flow.track.environment import quiet_environment
    from sia_flow.track.links import SERVER_ENVIRONMENT, server_command
    from sia_flow.track.mlflow import default_artifacts, default_uri

    if prefect:
        prefect.start_async()
    if mlflow:
        artifacts = default_artifacts(project.root)
        artifacts.mkdir(parents=True, exist_ok=True)
        arguments = server_command(default_uri(project.root), artifacts, port)
        mlflow.start("mlflow", arguments, quiet_environment(project.state) | SERVER_ENVIRONMENT)
    if prefect:
        prefect.wait()
    if mlflow:
        mlflow.wait(START_SECONDS)


def _announce(prefect: PrefectServer | None, prefect_port: int, mlflow: Service | None, mlflow_port: int) -> None:
    from sia_flow.track.environment import profile_server

    own = profile_server(os.environ).get("PREFECT_API_URL", "").removesuffix("/api")
    typer.echo(f"Prefect: {f'http://{HOST}:{prefect_port}' if prefect else own}")
    typer.echo(f"MLflow:  {f'http://{HOST}:{mlflow_port}' if mlflow else os.environ.get('MLFLOW_TRACKING_URI')}")
    if prefect or mlflow:
        typer.echo("Ctrl-C ends them.")


def _require(port: int, option: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InfrastructureError(
                f"port {port} is not free ({error.strerror}): end what listens there or give another {option}"
            ) from error


@contextmanager
def _ending_politely() -> Iterator[None]:
    """Let SIGTERM end the servers as Ctrl-C does."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
