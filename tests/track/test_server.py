"""The private Prefect server, with real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.track.database import FirstStart
from sia_flow.track.server import PrefectServer
from sia_flow.track.service import Service

FirstRun = SimpleNamespace
ROOT = Path(__file__).parents[2]
PARENT = """
import sys
from pathlib import Path
from sia_flow.track.service import Service
service = Service("toy", "http://127.0.0.1:9/", Path(sys.argv[1]))
service.start("http.server", ["0", "--bind", "127.0.0.1"], {})
print(service.pid, flush=True)
sys.stdin.read()
"""


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_dies_with_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not alive(pid), 2.0)
    parent.stdin.close()
    parent.stdout.close()


def test_stopping_ends_what_the_server_started(tmp_path: Path) -> None:
    (tmp_path / "nest.py").write_text(
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    service = Service("toy", "http://127.0.0.1:9/", tmp_path / "log")
    service.start("nest", [], {"PYTHONPATH": str(tmp_path)})
    until(lambda: (tmp_path / "log").read_text().strip().isdigit())
    grandchild = int((tmp_path / "log").read_text())
    assert alive(grandchild)
    service.stop(grace=0.1)
    until(lambda: not alive(grandchild), 2.0)


def test_a_server_that_fails_says_why(tmp_path: Path) -> None:
    service = Service("toy server", "http://127.0.0.1:9/", tmp_path / "log")
    service.start("no_such_module_here", [], {})
    with pytest.raises(InfrastructureError, match=r"(?s)toy server ended with code 1.*no_such_module_here"):
        service.wait(20)


def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    service = Service("toy server", "http://127.0.0.1:9/", tmp_path / "log")
    service.start("http.server", ["0", "--bind", "127.0.0.1"], {})
    pid = service.pid
    with pytest.raises(InfrastructureError, match=r"did not answer .* within 0.2 s"):
        service.wait(0.2)
    assert not alive(pid)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        server = PrefectServer(tmp_path, port=taken.server_port, environ={"HOME": str(tmp_path)})
        with pytest.raises(InfrastructureError, match=f"port {taken.server_port}"):
            server.start_async()


def test_the_users_server_is_used_and_left_alone(tmp_path: Path) -> None:
    server = PrefectServer(tmp_path, environ={"PREFECT_API_URL": "http://team:4200/api"})
    with server:
        assert not server.private
        assert server.pid is None
        assert server.variables()["PREFECT_API_URL"] == "http://team:4200/api"


def test_one_process_at_a_time_makes_the_database(tmp_path: Path) -> None:
    first, second = FirstStart(tmp_path), FirstStart(tmp_path)
    assert first.enter()
    assert not second.enter()
    with pytest.raises(InfrastructureError, match="another process"):
        second.enter(0.1)
    first.done()
    assert second.enter()
    second.done()


def test_a_half_made_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_text("half")
    start = FirstStart(tmp_path)
    assert start.enter()
    assert not (tmp_path / "prefect.db").exists()
    assert (tmp_path / "unfinished.db").read_text() == "half"
    (tmp_path / "prefect.db").write_text("whole")
    start.done()
    FirstStart(tmp_path).enter()
    assert (tmp_path / "prefect.db").read_text() == "whole"


@pytest.mark.slow
def test_a_private_prefect_server_runs_a_flow_and_ends(first_start: FirstRun) -> None:
    assert first_start.output == "7"
    assert not alive(first_start.pid)


@pytest.mark.slow
def test_a_second_start_on_the_same_home_knows_the_first(first_start: FirstRun, tmp_path: Path) -> None:
    shutil.copytree(first_start.state, tmp_path / "state")
    again = PrefectServer(tmp_path / "state", environ=first_start.environ)
    again.start_async()
    with again:
        count = f"{again.variables()['PREFECT_API_URL']}/flow_runs/count"
        request = urllib.request.Request(count, b"{}", {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            assert reply.read() == b"1"
        os.kill(again.pid, signal.SIGKILL)
        until(lambda: not again.running)
