"""`sia-flow doctor`, on this machine and on one without bubblewrap and podman."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCTOR = "import sys; from sia_flow.cli.main import main; sys.argv = ['sia-flow', 'doctor', *sys.argv[1:]]; main()"
WITHOUT = (
    "import os, sys\nfrom sia_flow.sandbox.inside import linux\n"
    "linux.unshare(linux.CLONE_NEWNS)\nlinux.private_mounts()\n"
    "for name in {names!r}:\n"
    "    if os.path.exists(name): linux.mount('/dev/null', name, flags=linux.MS_BIND)\n"
)
BWRAP = ("/usr/bin/bwrap", "/usr/local/bin/bwrap")
PODMAN = ("/usr/bin/podman", "/usr/local/bin/podman")
WITHOUT_BWRAP = WITHOUT.format(names=BWRAP + PODMAN)


def doctor(*arguments, before="", cwd=ROOT):
    """Run the command in a process of its own and return how it ended."""
    return subprocess.run(
        [sys.executable, "-c", before + DOCTOR, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_runnable_machine_is_described(tmp_path):
    with socket.create_server(("127.0.0.1", 0)):
        done = doctor("--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["runnable"]
    assert report["isolation"]["level"] >= 1
    assert report["prepared"] == {"data/denoise": False, "models/tiny-gpt-oss": False}
    assert report["cores"] >= 1


def test_people_get_lines(tmp_path):
    (tmp_path / "data" / "denoise").mkdir(parents=True)
    done = doctor(cwd=tmp_path)
    assert "isolation   level" in done.stdout
    assert "prepared    data/denoise: yes" in done.stdout
    assert "prepared    models/tiny-gpt-oss: no; run `sia-flow prepare`" in done.stdout


def test_a_level_that_is_not_reached_gives_exit_code_6():
    done = doctor("--level", "3")
    assert done.returncode == 6
    assert "level 3" in done.stdout


def test_every_backend_is_told_with_its_level_or_what_it_lacks(tmp_path):
    report = json.loads(doctor("--json", cwd=tmp_path).stdout)
    assert list(report["backends"]) == ["bubblewrap", "podman", "landlock"]
    taken = report["backends"][report["isolation"]["backend"]]
    assert taken == {"level": report["isolation"]["level"], "problem": None}
    others = [line for line in doctor(cwd=tmp_path).stdout.splitlines() if line.startswith("otherwise ")]
    assert len(others) == 2
    for name, one in report["backends"].items():
        assert (one["level"] == 0) == bool(one["problem"])
        assert name == report["isolation"]["backend"] or any(f" {name}: " in line for line in others)


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding bubblewrap takes a mount")
def test_without_bubblewrap_landlock_holds_and_the_remedy_is_named():
    done = doctor("--json", before=WITHOUT_BWRAP)
    report = json.loads(done.stdout)
    assert (done.returncode, report["isolation"]["backend"]) == (0, "landlock")
    assert "apt-get install bubblewrap" in report["isolation"]["remedies"][0]
    assert report["backends"]["podman"]["problem"].startswith("podman is not installed: install podman")
    assert doctor("--level", "2", before=WITHOUT_BWRAP).returncode == 6
