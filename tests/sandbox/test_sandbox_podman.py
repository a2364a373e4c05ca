"""What is podman's own: its records and processes go with the session, nothing is shown or writable beside the rest.

The attacks that every backend has to withstand run on it in the other files of this folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sia_flow.errors import InfrastructureError, IsolationError
from sia_flow.lineage.store import Store
from sia_flow.loop.lab import Lab
from sia_flow.protocols import Image
from sia_flow.sandbox import attacks, open_sandbox, podman
from sia_flow.sandbox.inside import container
from sia_flow.spec.load import load_experiments
from tests.sandbox.jobs import IMAGE, one, program, scaffold
from tests.sandbox.levels import sandbox_or_skip
from tests.sandbox.test_sandbox_doctor import BWRAP, WITHOUT, doctor
from tests.sandbox.test_sandbox_host import AS_PLAIN_USER, HOST, ROOT
from tests.sandbox.test_sandbox_limits import alive, below, until

WRITABLE = (
    "found = []\n"
    "for folder, names, _ in os.walk('/'):\n"
    "    if folder.startswith('/proc/') or folder.count('/') > 6:\n"
    "        names.clear()\n"
    "    try:\n"
    "        open(folder + '/canary', 'w').close()\n"
    "        found.append(folder)\n"
    "    except OSError:\n        pass\n"
    "return json.dumps(sorted(found))"
)
SHOWN = "return json.dumps({folder: sorted(os.listdir(folder)) for folder in ('/', '/etc', '/dev')})"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="as an ordinary user every test of this folder is this test")


@pytest.fixture(scope="module")
def box():
    return sandbox_or_skip("podman")


def as_plain_user(code, *arguments):
    """Run `code` as nobody, in a mount namespace where the interpreter can be entered."""
    shown = ":".join(dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT))))
    command = [sys.executable, "-c", AS_PLAIN_USER, code, str(ROOT), "podman", shown, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_nothing_but_the_scratch_can_be_written(box):
    with box.open(Image()) as session:
        assert json.loads(one(session, scaffold(WRITABLE)).value) == ["/dev/shm", "/tmp"]


def test_podman_shows_no_more_than_bubblewrap_but_names_of_its_own(box):
    with box.open(Image()) as session:
        shown = json.loads(one(session, scaffold(SHOWN)).value)
    with sandbox_or_skip("bubblewrap").open(Image()) as session:
        lesser = json.loads(one(session, scaffold(SHOWN)).value)
    more = {folder: set(names) - set(lesser[folder]) for folder, names in shown.items()}
    assert more["/"] <= {"run", "sys"}
    assert more["/etc"] <= {"group", "hostname", "mtab", "passwd"}
    assert more["/dev"] <= {"mqueue"}


@pytest.mark.parametrize("which", ["keeper", "supervisor"])
def test_kill_of_whoever_holds_the_container_leaves_nothing(box, which):
    with box.open(IMAGE) as session:
        keeper = session._seats.link._keeper.pid
        supervisor = int(Path(f"/proc/{session.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        inside = below(keeper)
        assert {session.pid, supervisor} < inside
        # An ordinary user's podman keeps one process, with no code of anybody's, which the next session ends.
        pause = {pid for pid in inside if Path(f"/proc/{pid}/comm").read_text() == "catatonit\n"}
        assert not pause or os.geteuid() != 0
        os.kill(keeper if which == "keeper" else supervisor, signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in inside - pause))
        assert one(session, program("return x")).status == "OK"
        until(lambda: not any(alive(pid) for pid in pause))


def test_where_jobs_may_have_no_namespaces_it_is_told_and_holds(box, monkeypatch, tmp_path):
    monkeypatch.setattr(podman, "MAY_NEST", False)
    with attacks.target(tmp_path) as aim, box.open(Image()) as session:
        assert "namespaces of its own for each job" in session.isolation.missing
        assert "namespaces of its own for each job" in box.isolation.features
        assert attacks.breaches(session, aim) == []
        assert json.loads(one(session, scaffold(WRITABLE)).value) == []
    with box.open(IMAGE) as session:
        assert one(session, program("return x + np.ones(3)")).status == "OK"


PLAIN = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sia_flow.sandbox import open_sandbox
from sia_flow.protocols import Image, Limits
from tests.sandbox.jobs import one, scaffold
from tests.sandbox.test_sandbox_limits import alive, below, until
from tests.sandbox.test_sandbox_podman import WRITABLE

def records():
    return {path.name for path in Path("/var/tmp").glob("sia-flow-podman-*") if path.stat().st_uid == os.getuid()}

before = records()
box = open_sandbox(prefer="podman")
session = box.open(Image())
link = session._seats.link
inside = below(link._keeper.pid)
print(one(session, scaffold(WRITABLE)).value, len(records() - before))
os.kill(link._keeper.pid, 9)
until(lambda: not alive(session.pid))
session.close()
print(len(records() - before))
with box.open(Image()) as session:
    print(one(session, scaffold("return str(os.getuid())")).value, len(records() - before))
until(lambda: not any(alive(pid) for pid in inside))
print(len(records() - before))
"""


@ROOT_ONLY
def test_an_ordinary_user_leaves_nothing_either_and_clears_up_after_a_crash(box):
    """The next session removes what a killed keeper left, with the process by which podman holds a user namespace."""
    done = as_plain_user(PLAIN)
    out, err = done.communicate(timeout=60)
    assert out.splitlines() == ['["/dev/shm", "/tmp"] 1', "1", "65534 1", "0"], err


@ROOT_ONLY
def test_kill_of_an_ordinary_user_s_host_leaves_nothing(box):
    code = "import sys\nsys.path.insert(0, sys.argv[1])\nsys.argv[1:2] = []" + HOST
    host = as_plain_user(code)
    assert host.stdout.readline() == "running\n", host.stderr.read()
    inside = below(host.pid)
    assert len(inside) >= 5
    host.kill()
    host.communicate()
    until(lambda: not any(alive(pid) for pid in inside))
    until(lambda: not [path for path in Path("/var/tmp").glob(f"{container.PREFIX}*") if path.stat().st_uid == 65534])


def test_records_without_a_holder_are_swept_and_held_ones_are_not(tmp_path):
    held, stale = tmp_path / f"{container.PREFIX}held", tmp_path / f"{container.PREFIX}stale"
    sleepers = []
    for folder, home in ((held, held), (stale, stale), (stale, tmp_path)):
        folder.mkdir(exist_ok=True)
        sleepers.append(subprocess.Popen(["/bin/sleep", "60"], env={"HOME": str(home)}))
    try:
        lock = os.open(held, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        container.sweep(str(tmp_path))
        assert (held.exists(), stale.exists()) == (True, False)
        assert sleepers[1].wait(5) == -signal.SIGKILL
        # What podman did not start for it goes on, and so does what is held.
        assert (sleepers[0].poll(), sleepers[2].poll()) == (None, None)
        os.close(lock)
        container.sweep(str(tmp_path))
        assert not held.exists()
        assert sleepers[0].wait(5) == -signal.SIGKILL
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


def test_named_and_not_there_it_is_refused_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(podman, "_PODMAN_PLACES", ("/nowhere/podman",))
    with pytest.raises(IsolationError, match=r"podman: podman is not installed\. Remedy: install podman 4\.3"):
        open_sandbox(state_dir=tmp_path, prefer="podman")


def test_without_crun_it_is_refused(monkeypatch, tmp_path, box):
    monkeypatch.setattr(podman, "_CRUN_PLACES", ("/nowhere/crun",))
    with pytest.raises(IsolationError, match="podman: crun, the runtime that podman needs for this, is not installed"):
        open_sandbox(state_dir=tmp_path, prefer="podman")


def test_what_podman_says_is_the_reason(box, monkeypatch):
    monkeypatch.setattr(podman, "_CRUN_PLACES", ("/bin/false",))
    with pytest.raises(InfrastructureError, match="podman ended with code 126: container create failed"):
        box.open(Image())


def test_a_path_that_podman_cannot_be_told_is_refused():
    with pytest.raises(InfrastructureError, match="podman cannot show /sandbox/site-packages/a,b"):
        podman.order([podman.packages.Item("/site", "a,b")], "/inside", {}, ["python"])


@ROOT_ONLY
def test_without_bubblewrap_podman_is_taken(box):
    report = json.loads(doctor("--json", "--level", "2", before=WITHOUT.format(names=BWRAP)).stdout)
    assert (report["isolation"]["level"], report["isolation"]["backend"]) == (2, "podman")
    assert "bubblewrap is not installed" in report["backends"]["bubblewrap"]["problem"]


@pytest.mark.parametrize("backend", ["auto", "podman", "landlock"])
def test_an_experiment_gets_the_backend_that_it_names(tmp_path, backend):
    if backend != "auto":
        sandbox_or_skip(backend)
    with lab(tmp_path, f"sandbox.backend={backend}") as opened:
        assert opened.isolation.backend == (open_sandbox().isolation.backend if backend == "auto" else backend)


def test_one_that_is_named_and_too_weak_is_refused(tmp_path):
    weak = lab(tmp_path, "sandbox.backend=landlock", "sandbox.minimum_level=2")
    with weak as opened, pytest.raises(IsolationError, match=r"at level 2\. landlock has level 1"):
        opened.sandbox  # noqa: B018 - found when it is first asked for


def lab(folder, *overrides):
    """A lab on an experiment of which nothing but its sandbox is needed."""
    spec = folder / "spec.yaml"
    spec.write_text("metadata: {name: held}\nspec: {task: {name: denoise}}\n")
    (experiment,) = load_experiments(spec, overrides)
    return Lab(experiment, folder, Store(folder / ".sia-flow/store"))
