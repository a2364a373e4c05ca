"""Level 3: the kernel charges each job. What needs a delegated cgroup is skipped where there is none, and fails where
`SIA_FLOW_EXPECT_LEVEL=3` says that there is one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sia_flow.protocols import Limits
from sia_flow.sandbox import attacks, backends, cgroups, open_sandbox
from tests.sandbox.jobs import IMAGE, LIMITS, one, program, scaffold
from tests.sandbox.levels import EXPECTED, sandbox_or_skip
from tests.sandbox.test_sandbox_host import HOST
from tests.sandbox.test_sandbox_limits import until

ROOT = Path(__file__).resolve().parents[2]


def marked(folder: Path, controllers: str = "cpu memory pids", mark: bytes = b"1") -> Path:
    """Lay a folder that looks like a cgroup which systemd delegated."""
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text(controllers)
    try:
        os.setxattr(folder, "user.delegate", mark)
    except OSError as error:
        pytest.skip(f"no extended attributes in {folder}: {error}")
    return folder


def test_only_a_cgroup_that_says_so_is_delegated(tmp_path):
    scope = marked(tmp_path / "run.scope")
    assert cgroups.find(scope) == scope
    assert cgroups.find(scope / cgroups.HOST) == scope
    assert cgroups.find(scope / "deeper") is None
    assert cgroups.find(marked(tmp_path / "small.scope", "cpu pids")) is None
    assert cgroups.find(marked(tmp_path / "kept.scope", mark=b"0")) is None
    (tmp_path / "session.scope").mkdir()
    (tmp_path / "session.scope" / "cgroup.controllers").write_text("cpu memory pids")
    assert cgroups.find(tmp_path / "session.scope") is None
    assert cgroups.find(None) is None


def test_the_cgroup_of_version_2_is_read_among_others():
    assert cgroups._own("4:memory:/a\n0::/user.slice/run.scope\n") == Path("/sys/fs/cgroup/user.slice/run.scope")
    assert cgroups._own("4:memory:/a\n") is None


@pytest.fixture(scope="module", params=["bubblewrap", "podman"])
def charged(request):
    if cgroups.delegated() is None:
        missing = f"no cgroup was delegated; {cgroups.REMEDY}"
        if int(os.environ.get(EXPECTED, "0")) >= backends.CHARGED_LEVEL:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    sandbox_or_skip(request.param)
    with open_sandbox(minimum_level=3, prefer=request.param).open(IMAGE, workers=2) as session:
        assert session.isolation.backend == request.param
        yield session


def folders():
    """The sessions' cgroups that there are."""
    return {path.name for path in cgroups.delegated().iterdir() if path.name.startswith("sia-flow-")} - {cgroups.HOST}


def test_the_level_is_told(charged):
    assert charged.isolation.level == 3
    assert backends.CHARGED in charged.isolation.features
    assert charged.isolation.missing == ()


def test_many_processes_are_killed_as_one_and_the_next_job_is_not(charged):
    for _ in range(3):
        killed = attacks.hoard(charged)
        assert killed.status == "MEMORY", killed
        assert "processes held more than" in killed.error
        assert one(charged, program("return x")).status == "OK"


def test_memory_of_one_process_ends_it_with_a_reason(charged):
    assert one(charged, program("return np.ones(1 << 28)[:6].reshape(2, 3)")).status == "MEMORY"


def test_processes_beyond_the_limit_are_refused(charged):
    body = "made = 0\nfor _ in range(20):\n    if os.fork() == 0:\n        os._exit(0)\n    made += 1\nreturn str(made)"
    outcome = one(charged, scaffold(body), replace(LIMITS, processes=8))
    assert outcome.status == "EXCEPTION"
    assert "BlockingIOError" in outcome.error


def test_a_running_job_is_in_a_cgroup_of_its_own(charged):
    found = []

    def serve(calls):
        leaves = charged._seats.link.cgroups.folder.glob("[0-9]*/cgroup.procs")
        found.append(sorted(len(path.read_text().split()) for path in leaves if path.read_text()))
        return ["" for _ in calls]

    job = scaffold("os.fork() or __import__('time').sleep(9)\njob.generate([])\nreturn 'x'")
    assert [outcome.status for outcome in charged.run([job] * 3, LIMITS, serve)] == ["OK"] * 3
    assert found[0][-3:] == [2, 2, 2]


def test_cgroups_are_used_again_and_go_with_their_session(charged):
    before = folders()
    with open_sandbox(minimum_level=3, prefer=charged.isolation.backend).open(IMAGE, workers=2) as session:
        (fresh,) = folders() - before
        session.run([program("return x")] * 40, LIMITS)
        assert len(list((cgroups.delegated() / fresh).glob("[0-9]*"))) <= 8
    assert folders() == before


def test_those_of_a_host_that_is_killed_go_too(charged):
    before = folders()
    command = [sys.executable, "-c", HOST, charged.isolation.backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as host:
        assert host.stdout.readline() == b"running\n"
        assert len(folders() - before) == 1
        host.send_signal(signal.SIGKILL)
    until(lambda: folders() == before)


def test_limits_are_those_of_the_job(charged):
    limits = Limits(memory=96 << 20, processes=5)
    assert one(charged, program("return x"), limits).status == "OK"
    pool = charged._seats.link.cgroups
    assert {leaf.limits for leaf in pool._free} >= {((96 << 20) + pool.room, 5)}
    (leaf,) = [leaf for leaf in pool._free if leaf.limits == ((96 << 20) + pool.room, 5)][:1]
    page = os.sysconf("SC_PAGE_SIZE")
    assert int((leaf.folder / "memory.max").read_text()) == leaf.limits[0] // page * page
    assert (leaf.folder / "pids.max").read_text().strip() == "5"
