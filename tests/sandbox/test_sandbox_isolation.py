"""What a candidate cannot reach. Every attack has a live target, so it fails because of the sandbox alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from sia_flow.sandbox import attacks
from tests.sandbox.jobs import LIMITS, one, scaffold


def attempt(session, action):
    """Return what the action's expression gave inside, or the name of the error that stopped it."""
    body = f"try:\n    return 'reached ' + repr({action})\nexcept Exception as error:\n    return type(error).__name__"
    outcome = one(session, scaffold(body))
    assert outcome.status == "OK", outcome
    return outcome.value


REFUSED = ("PermissionError", "FileNotFoundError", "NotADirectoryError", "OSError", "ProcessLookupError")


@pytest.fixture
def open_file(tmp_path):
    """A file that everyone on the host may read, below a folder that everyone may enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o777)
        path = Path(folder) / "answers.csv"
        path.write_text("the answer")
        path.chmod(0o666)
        yield str(path)


@pytest.mark.parametrize("prefix", ["", "/proc/1/root", "/proc/self/root", "/proc/self/cwd/../../../../.."])
def test_a_file_of_the_host_cannot_be_read(session, open_file, prefix):
    assert attempt(session, f"open({prefix + open_file!r}).read()") in REFUSED


def test_the_project_and_the_home_cannot_be_listed(session):
    home = str(Path.home() / ".ssh")
    folders = (str(Path(__file__).parent), home, "/var/log", "/run", "/proc/1/root/etc")
    for folder in folders:
        assert attempt(session, f"os.listdir({folder!r})") in REFUSED
    for file in ("pyproject.toml", "sia_flow/errors.py"):
        assert attempt(session, f"open({str(Path(file).resolve())!r}).read()") in REFUSED


def test_nothing_outside_can_be_written(session, open_file):
    places = [
        open_file,
        open_file + ".new",
        "/canary",
        "/usr/canary",
        "/etc/canary",
        str(Path(sys.prefix) / "canary"),
        str(Path(os.__file__).parent / "site-packages" / "canary.pth"),
        "/proc/sys/kernel/core_pattern",
        "/dev/kmsg",
    ]
    for place in places:
        assert attempt(session, f"open({place!r}, 'a').write('x')") in REFUSED, place
    assert not Path(open_file + ".new").exists()


def test_metadata_outside_cannot_be_changed(session, open_file):
    before = Path(open_file).stat()
    for action in (f"os.chmod({open_file!r}, 0)", f"os.utime({open_file!r})", f"os.unlink({open_file!r})"):
        assert attempt(session, action) in REFUSED
    assert Path(open_file).stat() == before


def test_the_environment_is_ours_and_that_of_others_is_hidden(session):
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, env={"OPENAI_API_KEY": "sk-canary"}) as holder:
        pids = (holder.pid, os.getpid(), os.getppid(), 1)
        for name in ("environ", "cmdline", "maps", "mem"):
            for pid in pids:
                assert attempt(session, f"open('/proc/{pid}/{name}', 'rb').read()") in REFUSED
        holder.kill()
    inside = attempt(session, "sorted(os.environ)")
    assert set(os.environ) - {"HOME", "LANG", "LOGNAME", "PATH", "USER", "OMP_NUM_THREADS"} - set(eval(inside[8:]))
    assert not [name for name in eval(inside[8:]) if "KEY" in name or "TOKEN" in name]


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_VSOCK", "AF_PACKET", "AF_ALG"])
def test_no_socket_of_any_family(session, family):
    assert attempt(session, f"__import__('socket').socket(__import__('socket').{family})") in REFUSED


def test_a_listener_on_loopback_hears_nothing(session):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert attempt(session, f"__import__('socket').create_connection(('127.0.0.1', {port}), 1)") in REFUSED
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_processes_of_the_host_cannot_be_signalled(session):
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as bystander:
        for pid in (bystander.pid, os.getpid(), session.pid):
            if session.isolation.level >= 2 and pid < 10:
                continue
            assert attempt(session, f"os.kill({pid}, 9)") in REFUSED
        assert bystander.poll() is None
        bystander.kill()


def test_a_job_kills_all_that_it_may_and_the_session_goes_on(session):
    bystander = scaffold(
        "import time\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass\nreturn 'alive'"
    )
    killer = scaffold("os.kill(-1, 9)\nreturn 'survived'")
    parent = scaffold("os.kill(os.getppid(), 9)\nreturn 'survived'")
    first, *_ = session.run([bystander, killer, parent], LIMITS)
    assert first.value == "alive"


def test_candidates_are_never_root(session):
    assert attempt(session, "os.getuid()") not in ("reached 0", "reached '0'")
    if os.geteuid() == 0:
        assert Path(f"/proc/{session.pid}").stat().st_uid != 0
    assert attempt(session, "os.setuid(0)") in REFUSED


def test_only_four_descriptors_are_open(session):
    body = (
        "import fcntl\nfound = []\n"
        "for handle in range(1024):\n"
        "    try:\n        fcntl.fcntl(handle, fcntl.F_GETFD)\n"
        "    except OSError:\n        continue\n"
        "    found.append(handle)\n"
        "return str(found)"
    )
    assert one(session, scaffold(body)).value == "[0, 1, 2, 3]"


CALLS = {
    "ptrace": 101,
    "unshare": 272,
    "mount": 165,
    "setns": 308,
    "bpf": 321,
    "io_uring_setup": 425,
    "keyctl": 250,
    "perf_event_open": 298,
    "userfaultfd": 323,
    "memfd_create": 319,
    "process_vm_readv": 310,
    "pidfd_getfd": 438,
    "personality": 135,
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are of x86_64")
@pytest.mark.parametrize("name", CALLS)
def test_dangerous_system_calls_are_denied(session, name):
    body = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"result = libc.syscall({CALLS[name]}, 0, 0, 0, 0, 0)\nreturn str((result, ctypes.get_errno()))"
    )
    assert one(session, scaffold(body)).value == "(-1, 1)"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are of x86_64")
def test_the_x32_abi_kills(session):
    body = "import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)\nreturn 'alive'"
    assert one(session, scaffold(body)).status == "SIGNAL"


def test_capabilities_are_gone(session):
    body = (
        "import ctypes, struct\nlibc = ctypes.CDLL(None)\nheader = struct.pack('=Ii', 0x20080522, 0)\n"
        "data = ctypes.create_string_buffer(24)\nlibc.capget(header, data)\nreturn data.raw.hex()"
    )
    assert one(session, scaffold(body)).value == "00" * 24


def test_scratch_of_one_job_is_not_seen_by_the_next(session):
    if session.isolation.level < 2:
        assert attempt(session, "open('/tmp/note', 'w')") in REFUSED
        return
    assert attempt(session, "open('/tmp/note', 'w').write('x')") == "reached 1"
    assert attempt(session, "os.listdir('/tmp')") == "reached []"


def test_the_attacks_of_the_probe_find_a_hole(tmp_path, sandbox, session):
    """The probe's attacks, run without a sandbox, break through: so passing them means something."""
    with attacks.target(tmp_path) as aim:
        assert attacks.breaches(session, replace(aim, package=pytest.__file__)) == []
        scope = {}
        exec(attacks.SOURCE, scope)
        job = type("Job", (), {"instance": attacks.instance(replace(aim, library=str(tmp_path)))})
        found = scope["solve"](job)
    for name in ("read a file of the host", "write beside it", "connect to a port", "signal the host"):
        assert name in found
    assert "read a package that was not given" in found
