"""The keeper and the host's own death; opening at a level; running as an ordinary user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from sia_flow.errors import IsolationError
from sia_flow.sandbox import backends, open_sandbox
from sia_flow.sandbox.inside import keeper, landlock, seccomp
from tests.sandbox.jobs import IMAGE, one, program
from tests.sandbox.levels import sandbox_or_skip
from tests.sandbox.test_sandbox_limits import alive, below, until

ROOT = Path(__file__).parents[2]

HOST = """
import sys, threading, time
from sia_flow.protocols import Image, Job, Limits
from sia_flow.sandbox import open_sandbox

session = open_sandbox(prefer=sys.argv[1]).open(Image())
body = "import os, time\\ndef solve(job):\\n    os.fork()\\n    job.generate([])\\n    time.sleep(60)"


def serve(calls):
    print("running", flush=True)
    time.sleep(600)


session.run([Job(body, "solve", instance={})] * 3, Limits(), serve)
"""


def test_kill_of_the_host_leaves_nothing(sandbox):
    host = subprocess.Popen([sys.executable, "-c", HOST, sandbox.isolation.backend], stdout=subprocess.PIPE, cwd=ROOT)
    assert host.stdout.readline() == b"running\n"
    inside = below(host.pid)
    assert len(inside) >= 3
    host.kill()
    host.wait()
    host.stdout.close()
    until(lambda: not any(alive(pid) for pid in inside), seconds=5.0)


def test_kill_of_the_keeper_leaves_nothing(sandbox):
    session = sandbox.open(IMAGE)
    keeper = session._seats.link._keeper.pid
    inside = below(keeper)
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not alive(session.pid))
    assert one(session, program("return x")).status == "OK"
    session.close()
    until(lambda: not any(alive(pid) for pid in inside))


def test_a_session_outlives_the_thread_that_opened_it(sandbox):
    opened = []
    thread = threading.Thread(target=lambda: opened.append(sandbox.open(IMAGE)))
    thread.start()
    thread.join()
    with opened[0] as session:
        assert one(session, program("return x")).status == "OK"


def test_the_strongest_backend_is_taken():
    if backends.bwrap() is None:
        pytest.skip("no bubblewrap here")
    assert open_sandbox().isolation.backend == "bubblewrap"


def test_too_high_a_level_is_refused_with_the_remedy():
    reached = r"level 3\..*bubblewrap has level 2; podman has level 2; landlock has level 1"
    with pytest.raises(IsolationError, match=reached):
        open_sandbox(minimum_level=3)
    unknown = "unknown sandbox backend 'docker'; there are bubblewrap, podman, landlock"
    with pytest.raises(IsolationError, match=unknown):
        open_sandbox(prefer="docker")


def test_the_canary_lies_where_it_is_asked_to(tmp_path):
    assert open_sandbox(state_dir=tmp_path / "state").isolation.level >= 1
    assert list((tmp_path / "state").iterdir()) == []


def test_a_bwrap_on_the_path_is_not_used(tmp_path, monkeypatch):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert backends.bwrap() != str(fake)


PLAIN_USER = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from sia_flow.protocols import ArraySpec, Image, Job, Limits
from sia_flow.sandbox import open_sandbox

sandbox = open_sandbox(prefer=sys.argv[2])
with sandbox.open(Image(preload=("numpy",), arrays={"x": np.arange(3.0)})) as session:
    source = "import os\\ndef f(x):\\n    return x + 1"
    jobs = [Job(source, "f", ("x",), returns=ArraySpec((3,)))] * 3
    print([float(outcome.value.sum()) for outcome in session.run(jobs, Limits())])
"""

AS_PLAIN_USER = """
import os, subprocess, sys
from sia_flow.sandbox.inside import container, keeper, linux

linux.unshare(linux.CLONE_NEWNS)
linux.private_mounts()
container.hide_hybrid()
keeper.uncover(sys.argv[4].split(":"))
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
os.chdir("/")
os.execve(sys.executable, [sys.executable, "-c", *sys.argv[1:4]], {"TMPDIR": "/var/tmp", "LANG": "C.UTF-8"})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="as an ordinary user every test of this folder is this test")
def test_an_ordinary_user_gets_the_same(sandbox):
    """Run as nobody, in a mount namespace where the interpreter can be entered."""
    shown = ":".join(dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT / "sia_flow"))))
    command = [sys.executable, "-c", AS_PLAIN_USER, PLAIN_USER, str(ROOT), sandbox.isolation.backend, shown]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[6.0, 6.0, 6.0]", "")


AS_ROOT_OF_A_CONTAINER = """
import os, sys
from sia_flow.sandbox.inside import keeper, linux

PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
linux.unshare(linux.CLONE_NEWNS)
linux.private_mounts()
keeper.uncover(sys.argv[4].split(":"))
linux.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN)
os.chdir("/")
os.execve(sys.executable, [sys.executable, "-c", *sys.argv[1:4]], {"TMPDIR": "/var/tmp", "LANG": "C.UTF-8"})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="about root")
def test_root_that_may_make_no_namespace_gets_landlock():
    """As in a pod: no CAP_SYS_ADMIN, and an interpreter that everyone may enter."""
    sandbox_or_skip("landlock")
    shown = ":".join(dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT / "sia_flow"))))
    command = [sys.executable, "-c", AS_ROOT_OF_A_CONTAINER, PLAIN_USER, str(ROOT), "landlock", shown]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[6.0, 6.0, 6.0]", "")


def test_a_folder_that_stands_in_the_way_there_is_named():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        (Path(folder) / "python").touch()
        paths = ["/usr/bin", f"{folder}/python"]
        with pytest.raises(
            PermissionError, match=f"`chmod o\\+x {folder}`, or start sia-flow as a user that is not root"
        ):
            keeper.as_they_are(paths)
        Path(folder).chmod(0o711)
        assert keeper.as_they_are(paths) == {path: path for path in paths}


def in_fork(action):
    """Run `action` in a fork and return its exit code; 77 for an exception."""
    pid = os.fork()
    if pid == 0:
        code = 77
        try:
            code = action()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_filter_for_old_kernels_lets_a_process_signal_itself_alone():
    def action():
        seccomp.install(seccomp.prepare(seccomp.build(metadata=True, signals=os.getpid())))
        os.kill(os.getpid(), 0)
        try:
            os.kill(os.getppid(), 0)
        except PermissionError:
            return 5
        return 1

    assert in_fork(action) == 5


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filters_are_built_for_both_machines(machine):
    program = seccomp.build(metadata=True, signals=1, machine=machine)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096


def test_landlock_lets_read_what_is_named_and_nothing_else(tmp_path):
    if landlock.abi() == 0:
        pytest.skip("the kernel has no Landlock")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    (tmp_path / "b").write_text("b")

    def action():
        landlock.restrict(landlock.ruleset([str(tmp_path / "a")]))
        assert (tmp_path / "a" / "x").read_text() == "x"
        try:
            (tmp_path / "b").read_text()
        except PermissionError:
            return 5
        return 1

    assert in_fork(action) == 5
