"""The rest of the list of attacks (docs/security.md): kernel interfaces, resources, concurrency, degradation."""

from __future__ import annotations

import ast
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sia_flow.protocols import Limits
from sia_flow.sandbox import attacks
from sia_flow.sandbox import open as opening
from tests.sandbox.jobs import IMAGE, LIMITS, one, program, scaffold
from tests.sandbox.test_sandbox_host import HOST
from tests.sandbox.test_sandbox_isolation import REFUSED, attempt
from tests.sandbox.test_sandbox_limits import alive, below, descriptors, until

ROOT = Path(__file__).parents[2]
QUICK = replace(LIMITS, wall=1.0)
INT80 = (
    "import ctypes, mmap\n"
    "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
    "page.write(bytes.fromhex('b814000000cd80c3'))\n"
    "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()\n"
    "return 'alive'"
)


@pytest.mark.parametrize(
    "path", ["/proc/sysrq-trigger", "/proc/kcore", "/dev/vda", "/dev/sda", "/dev/mem", "/dev/fuse"]
)
def test_no_device_and_no_handle_of_the_kernel(session, path):
    assert attempt(session, f"open({path!r}, 'r+b')") in REFUSED


def test_a_search_by_pattern_finds_nothing_of_the_project(session):
    found = attempt(session, f"__import__('glob').glob({str(ROOT)!r} + '/**', recursive=True)")
    assert found in ("reached []", f"reached [{str(ROOT) + '/'!r}]")
    assert attempt(session, "[p for p in os.listdir('/proc') if p.isdigit() and os.listdir(f'/proc/{p}/cwd')]") in (
        *REFUSED,
        "reached []",
    )


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")
def test_the_i386_abi_kills(session):
    assert one(session, scaffold(INT80)).status == "SIGNAL"


@pytest.mark.parametrize("request_", [0x5412, 0x541C])
def test_a_terminal_cannot_be_typed_into(session, request_):
    assert attempt(session, f"__import__('fcntl').ioctl(0, {request_}, b'x')") == "PermissionError"


def test_limits_cannot_be_raised_nor_priority(session):
    raising = "__import__('resource').setrlimit(__import__('resource').{}, (-1, -1))"
    for name in ("RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_FSIZE"):
        assert attempt(session, raising.format(name)) in ("ValueError", "PermissionError", "OSError")
    assert attempt(session, "os.nice(-5)") in REFUSED
    assert attempt(session, "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))") in REFUSED


def test_two_jobs_at_once_share_nothing(session):
    body = (
        "import ctypes, time\n"
        "try:\n    open('/dev/shm/note', 'w').write('x')\n    found = os.listdir('/dev/shm')\n"
        "except OSError:\n    found = ['note']\n"
        "segment = ctypes.CDLL(None).shmget(4711, 4096, 0o1666)\n"
        "try:\n    shown = [name for name in os.listdir('/proc') if name.isdigit()]\nexcept OSError:\n    shown = []\n"
        "job.generate([])\n"
        "return json.dumps([found, segment, len(shown)])"
    )
    outcomes = session.run([scaffold(body)] * 2, LIMITS, lambda calls: [["x"]] * len(calls))
    assert [outcome.value for outcome in outcomes] == ['[["note"], -1, 0]'] * 2


def test_a_thread_bomb_is_bounded(session):
    body = (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    outcome = one(session, program(body), replace(QUICK, processes=32))
    assert outcome.status in ("EXCEPTION", "MEMORY", "TIMEOUT")
    assert one(session, program("return x")).status == "OK"


def test_inodes_and_shared_memory_are_bounded(session):
    if session.isolation.level < 2:
        pytest.skip("no writable folder without namespaces")
    many = "for n in range(20_000):\n    open(f'/tmp/{n}', 'w').close()\nreturn x"
    assert "No space left" in one(session, program(many)).error
    fill = "for n in range(100):\n    open(f'/dev/shm/{n}', 'wb').write(bytes(1 << 20))\nreturn x"
    assert "No space left" in one(session, program(fill)).error
    sparse = "file = open('/tmp/a', 'wb')\nfile.truncate(1 << 40)\nreturn x"
    assert one(session, program(sparse)).status in ("EXCEPTION", "SIGNAL")


def test_hundreds_of_zombies_go_with_their_job(session):
    before = below(session.pid)
    body = "for _ in range(300):\n    if os.fork() == 0:\n        os._exit(0)\nreturn x"
    assert one(session, program(body), replace(LIMITS, processes=400)).status == "OK"
    until(lambda: below(session.pid) <= before)


def test_both_streams_flood_at_once(session):
    body = "if os.fork() == 0:\n    while True: os.write(2, b'y' * 65536)\nwhile True: os.write(1, b'y' * 65536)"
    assert one(session, program(body)).status == "OUTPUT_FLOOD"


def test_a_slow_drip_of_output_buys_no_time(session):
    body = "import time\nwhile True:\n    os.write(1, b'.')\n    time.sleep(0.01)"
    outcome = one(session, program(body), QUICK)
    assert outcome.status == "TIMEOUT"


def test_other_processes_of_the_user_are_not_counted_against_a_job(sandbox):
    others = [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(100)]
    try:
        body = "for _ in range(8):\n    if os.fork() == 0:\n        os._exit(0)\nfor _ in range(8): os.wait()\nreturn x"
        with sandbox.open(IMAGE) as session:
            assert one(session, program(body), replace(LIMITS, processes=16)).status == "OK"
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.slow
def test_a_host_that_is_killed_while_it_starts_leaves_nothing(sandbox):
    draw = random.Random(3)
    before = {pid for pid in below(1) if alive(pid)}
    for _ in range(8):
        host = subprocess.Popen(
            [sys.executable, "-c", HOST, sandbox.isolation.backend], stdout=subprocess.DEVNULL, cwd=ROOT
        )
        moment = time.monotonic() + draw.uniform(0.2, 1.5)
        until(lambda moment=moment: time.monotonic() >= moment)
        inside = below(host.pid)
        host.kill()
        host.wait()
        until(lambda inside=inside: not any(alive(pid) and pid not in before for pid in inside), seconds=5.0)


@pytest.mark.slow
def test_five_hundred_runs_leave_the_host_and_the_zygote_as_they_were(sandbox):
    def resident(pid):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    with sandbox.open(IMAGE) as session:
        session.run([program("return x")] * 50, Limits())
        marks = (descriptors(), len(below(os.getpid())), resident(session.pid))
        session.run([program("return x")] * 500, Limits())
        assert (descriptors(), len(below(os.getpid()))) == marks[:2]
        assert resident(session.pid) - marks[2] < 1 << 20


def test_the_interpreter_inside_reads_no_start_up_file(session):
    flags = attempt(session, "(sys.flags.no_site, sys.flags.safe_path, sys.flags.no_user_site)")
    assert flags in ("reached (1, True, 1)", "reached (1, 1, 1)")
    assert attempt(session, "[path for path in sys.path if not path or 'site-packages' in path]") == "reached []"


def test_argv_environment_and_descriptors_do_not_tell_one_job_from_another(session):
    body = "return json.dumps([sys.argv, sorted(os.environ.items()), os.getcwd()])"
    outcomes = session.run([scaffold(body, seed=1), scaffold(body, seed=2)], LIMITS)
    assert outcomes[0].value == outcomes[1].value


def test_a_backend_that_an_attack_breaks_through_is_not_used(monkeypatch, sandbox):
    monkeypatch.setattr(attacks, "SOURCE", "def solve(job):\n    return '[\"read a file of the host\"]'")
    found = opening.examine.__wrapped__(sandbox.isolation.backend)
    assert found.isolation is None
    assert found.problem == "candidates could read a file of the host"


@pytest.mark.slow
def test_where_user_namespaces_are_denied_a_weaker_level_is_told(sandbox):
    if sandbox.isolation.backend != "bubblewrap":
        pytest.skip("about bubblewrap")
    code = "from sia_flow.sandbox import open_sandbox; print(open_sandbox().isolation.level)"
    outer = ["/usr/bin/bwrap", "--dev-bind", "/", "/", "--unshare-user", "--disable-userns", "--uid", "1000"]
    done = subprocess.run(
        [*outer, "--", sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.stdout.strip() == "1", done.stderr


LOADS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}


OWN = {("sia_flow/training/backends/processes.py", "torch.load")}
"""What processes of one launch tell each other: nothing that came from elsewhere."""
DANGEROUS = {"eval", "exec", "marshal.loads", "marshal.load", "torch.load", "np.load", "numpy.load", "yaml.load"}


def test_the_host_unpickles_and_evaluates_nothing():
    """No module of the host imports a pickler, evaluates text, or loads what could run code."""
    found = set()
    for path in (*(ROOT / "sia_flow").rglob("*.py"), *(ROOT / "flows").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if "/inside/" not in name:
            found |= {(name, what) for node in ast.walk(ast.parse(path.read_text())) for what in forbidden(node)}
    assert found - OWN == set()


def forbidden(node):
    """Return what a node of a host's module does that it must not."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names} & LOADS
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]} & LOADS
    if isinstance(node, ast.Call) and not safe(node):
        return {ast.unparse(node.func)} & DANGEROUS
    return set()


def safe(call):
    told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return told.get("allow_pickle") == "False" or told.get("weights_only") == "True" or "Safe" in told.get("Loader", "")
