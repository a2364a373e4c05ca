"""`sia-flow ui` with both servers."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("tasks", "flows"):
        (tmp_path / "project" / name).mkdir(parents=True)
    return tmp_path / "project"


def environment(project: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | {"HOME": str(project.parent), "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("option", ["--prefect-port", "--mlflow-port"])
def test_a_taken_port_names_the_option(project: Path, option: str) -> None:
    ports = {name: str(free_port()) for name in ("--prefect-port", "--mlflow-port")}
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        ports[option] = str(taken.server_port)
        command = [
            sys.executable,
            "-m",
            "sia_flow.cli.main",
            "ui",
            *(w for pair in ports.items() for w in pair),
        ]
        done = subprocess.run(
            command, cwd=project, env=environment(project), capture_output=True, text=True, check=False
        )
    assert done.returncode == 7
    assert f"port {taken.server_port} is not free" in done.stderr
    assert option in done.stderr


def test_servers_of_the_user_are_named_and_none_is_started(project: Path) -> None:
    own = {"PREFECT_API_URL": "http://team:4200/api", "MLFLOW_TRACKING_URI": "http://team:5000"}
    done = subprocess.run(
        [sys.executable, "-m", "sia_flow.cli.main", "ui"],
        cwd=project,
        env=environment(project) | own,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Prefect: http://team:4200\nMLflow:  http://team:5000\n"


@pytest.mark.slow
def test_both_pages_answer_and_end_with_ctrl_c(
    project: Path, tmp_path: Path, first_start: SimpleNamespace, migrated: bytes
) -> None:
    shutil.copytree(first_start.state, project / ".sia-flow")
    (project / "mlruns").mkdir()
    (project / "mlruns" / "mlflow.db").write_bytes(migrated)
    prefect, mlflow = free_port(), free_port()
    ports = ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    with (tmp_path / "errors").open("wb") as errors:
        ui = subprocess.Popen(
            [sys.executable, "-m", "sia_flow.cli.main", "ui", *ports],
            cwd=project,
            env=environment(project),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        shown = [ui.stdout.readline().strip() for _ in range(2)]
        assert shown == [f"Prefect: http://127.0.0.1:{prefect}", f"MLflow:  http://127.0.0.1:{mlflow}"]
        for line in shown:
            with urllib.request.urlopen(line.split()[1]) as page:
                assert b"<html" in page.read().lower()
        ui.send_signal(signal.SIGINT)
        assert ui.wait(30) == 130
        ui.stdout.close()
    for port in (prefect, mlflow):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
