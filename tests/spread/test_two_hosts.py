"""Two machines, played by two network namespaces: each has its own address and a cable that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sia_flow.lineage.store import Store
from sia_flow.loop.stopping import Stop
from sia_flow.spread.crew import Crew, Run
from sia_flow.spread.launcher import Ended
from sia_flow.spread.ticket import Ticket
from tests.flows.world import ROOT, until
from tests.spread.world import Heard, alive, began, experiment, pids, project

HOSTS = {"b": 1, "c": 2}


def ip(*arguments: str) -> bool:
    done = subprocess.run(["ip", *arguments], capture_output=True, check=False)
    return done.returncode == 0


def host(name: str) -> str:
    """Return a namespace's name, one a test process."""
    return f"sia{os.getpid()}{name}"


def cable(name: str) -> str:
    """Return the name of this machine's end of a host's cable."""
    return f"s{os.getpid()}{name}"


@pytest.fixture
def network() -> Iterator[None]:
    """Lay a cable from here to each host: 10.231.N.1 here, 10.231.N.2 there."""
    if os.geteuid() != 0 or shutil.which("ip") is None or not ip("netns", "add", host("b")):
        pytest.skip("network namespaces need root and iproute2")
    try:
        for name, number in HOSTS.items():
            there = host(name)
            if name != "b":
                assert ip("netns", "add", there)
            if not ip("link", "add", cable(name), "type", "veth", "peer", "name", "cable", "netns", there):
                pytest.skip("the kernel has no veth")
            assert ip("addr", "add", f"10.231.{number}.1/24", "dev", cable(name))
            assert ip("link", "set", cable(name), "up")
            assert ip("-n", there, "addr", "add", f"10.231.{number}.2/24", "dev", "cable")
            assert ip("-n", there, "link", "set", "cable", "up")
            assert ip("-n", there, "route", "add", "default", "via", f"10.231.{number}.1")
        yield
    finally:
        for name in HOSTS:
            # Both ends go at once; with its namespace alone they would go some time later.
            ip("link", "del", cable(name))
            ip("netns", "del", host(name))


class Hosts:
    """A launcher that starts one worker on each host in turn, as a cluster would."""

    host = "10.231.1.1"
    seats = 2

    def __init__(self) -> None:
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def launch(self, ticket: Ticket) -> None:
        name = "bc"[len(self.started) % 2]
        command = ["ip", "netns", "exec", host(name), sys.executable, "-m", "sia_flow.spread.alone"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert process.stdin is not None
        process.stdin.write(ticket.to_json().encode() + b"\n")
        process.stdin.flush()
        self.started[ticket.name] = process

    def ended(self) -> list[Ended]:
        return [Ended(name, "") for name, process in self.started.items() if process.poll() is not None]

    def close(self) -> None:
        for process in self.started.values():
            process.kill()
            process.wait()


def crew(root: Path, heard: Heard, hosts: Hosts) -> Crew:
    return Crew(Run(experiment(), root, Store(root / ".sia-flow/store"), heard, Stop()), hosts, 2)


def namespaces(root: Path) -> set[str]:
    """Return the hosts on which workers of the project run now."""
    known = {Path(f"/run/netns/{host(name)}").stat().st_ino: name for name in HOSTS}
    return {known[Path(f"/proc/{pid}/ns/net").stat().st_ino] for pid in pids(root) if alive(pid)}


@pytest.mark.usefixtures("network")
def test_workers_of_two_hosts_share_an_experiment(tmp_path: Path) -> None:
    seen: list[set[str]] = []
    root = project(tmp_path, together=2)
    assert len(crew(root, Heard(lambda: seen.append(namespaces(root))), Hosts()).run()) == 6
    assert {"b", "c"} in seen
    assert len(began(root)) == 6


@pytest.mark.usefixtures("network")
def test_a_host_that_vanishes_is_noticed_and_its_arm_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut cable sends no goodbye: neither side would ever hear of it."""
    monkeypatch.setattr("sia_flow.spread.wire.SILENCE", 3)
    root, hosts = project(tmp_path, together=2, mute={"H-0": 1}), Hosts()

    def cut() -> None:
        if not lost:
            silent = until(lambda: next((one["pid"] for one in began(root) if one["job"] == ["H", 0]), None))
            where = Path(f"/proc/{silent}/ns/net").stat().st_ino
            name = next(name for name in HOSTS if Path(f"/run/netns/{host(name)}").stat().st_ino == where)
            assert ip("-n", host(name), "link", "set", "cable", "down")
            lost.append(silent)

    lost: list[int] = []
    heard = Heard(cut)
    found = crew(root, heard, hosts).run()
    assert len(found) == 6
    assert any("the worker of H seed 0" in text and "another one takes over" in text for text in heard.warnings)
    assert [one["job"] for one in began(root)].count(["H", 0]) == 2
    until(lambda: not any(alive(pid) for pid in pids(root)))
