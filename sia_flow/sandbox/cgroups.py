"""A cgroup of version 2 for each job, where one was delegated to this process: the kernel then charges memory and
processes of a job's whole tree, and kills the tree as one.

Invariant: only a cgroup that says that it was delegated (`user.delegate`, which systemd sets) is ever changed, and of
that only what lies below it. Source: https://systemd.io/CGROUP_DELEGATION
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sia_flow.errors import InfrastructureError
from sia_flow.protocols import Limits

HOST = "sia-flow-host"
"""Leaf that this process and the others of the delegated cgroup move to: processes lie in leaves alone."""
REMEDY = (
    "have a cgroup of version 2 delegated: start it by `systemd-run --user --scope -p Delegate=yes sia-flow ...` "
    "(as root without --user)"
)
_MOUNT = Path("/sys/fs/cgroup")
_NEEDED = ("memory", "pids")
_ENABLE = " ".join(f"+{name}" for name in _NEEDED)
_MOVE_SECONDS = 5.0
_numbers = itertools.count()


@cache
def delegated() -> Path | None:
    """Return the cgroup that was delegated to this process, ready to hold others; None where there is none.

    Every process in it is moved to its leaf `HOST`, as the kernel asks for. Raises InfrastructureError where the cgroup
    says that it is delegated and does not behave so.
    """
    base = find(_own(Path("/proc/self/cgroup").read_text()))
    if base is not None:
        try:
            _make_room(base)
        except OSError as error:
            raise InfrastructureError(f"{base} is delegated, yet it cannot be used: {error}") from error
    return base


def find(own: Path | None) -> Path | None:
    """Return the delegated cgroup at or right above a process's own one."""
    if own is None:
        return None
    base = own.parent if own.name == HOST else own
    try:
        controllers = (base / "cgroup.controllers").read_text().split()
        marked = os.getxattr(base, "user.delegate") == b"1"
    except OSError:
        return None
    return base if marked and set(_NEEDED) <= set(controllers) else None


def _own(memberships: str) -> Path | None:
    """Return the folder of a process's cgroup of version 2, from its /proc/PID/cgroup."""
    paths = [line[3:] for line in memberships.splitlines() if line.startswith("0::")]
    return _MOUNT / paths[0].lstrip("/") if paths else None


def _make_room(base: Path) -> None:
    host = base / HOST
    host.mkdir(exist_ok=True)
    deadline = time.monotonic() + _MOVE_SECONDS
    while True:
        for pid in (base / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (host / "cgroup.procs").write_text(pid)
        try:
            (base / "cgroup.subtree_control").write_text(_ENABLE)
        except OSError:
            # One of them forked meanwhile; its child is still there.
            if time.monotonic() > deadline:
                raise
        else:
            return


@dataclass(slots=True)
class Leaf:
    """The cgroup of one job at a time."""

    folder: Path
    procs: int
    """Descriptor; who writes 0 to it moves in."""
    events: int
    """Descriptor of what happened to its memory."""
    kills: int = 0
    limits: tuple[int, int] | None = None


class Pool:
    """The cgroups of one session's jobs, below the delegated one. Its folder is removed by the session's keeper."""

    def __init__(self, base: Path) -> None:
        self.folder = base / f"sia-flow-{os.getpid()}-{next(_numbers)}"
        self.room = 0
        """Bytes beside a job's limit: pages of the zygote of which a job makes its own copy."""
        self._count = 0
        self._free: list[Leaf] = []
        self._taken: dict[int, Leaf] = {}
        try:
            self.folder.mkdir()
            (self.folder / "cgroup.subtree_control").write_text(_ENABLE)
        except OSError as error:
            raise InfrastructureError(f"no cgroup can be made in {base}: {error}") from error

    def take(self, job: int, limits: Limits) -> int:
        """Give a job a cgroup under these limits; return the descriptor by which it moves in."""
        try:
            leaf = self._free.pop() if self._free else self._make()
            self._limit(leaf, limits)
        except OSError as error:
            raise InfrastructureError(f"no cgroup can be made in {self.folder}: {error}") from error
        self._taken[job] = leaf
        return leaf.procs

    def give_back(self, job: int) -> bool:
        """Take the cgroup of an ended job back; return whether the kernel killed it for its memory."""
        leaf = self._taken.pop(job, None)
        if leaf is None:
            return False
        before, leaf.kills = leaf.kills, _kills(leaf.events)
        self._free.append(leaf)
        return leaf.kills > before

    def close(self) -> None:
        """Close the descriptors; an empty folder that no keeper was started for goes, too."""
        for leaf in (*self._free, *self._taken.values()):
            os.close(leaf.procs)
            os.close(leaf.events)
        self._free.clear()
        self._taken.clear()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _make(self) -> Leaf:
        folder = self.folder / str(self._count)
        self._count += 1
        folder.mkdir()
        (folder / "memory.oom.group").write_text("1")
        # Without swap the kernel has no such file.
        with contextlib.suppress(FileNotFoundError):
            (folder / "memory.swap.max").write_text("0")
        procs = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        return Leaf(folder, procs, os.open(folder / "memory.events", os.O_RDONLY | os.O_CLOEXEC))

    def _limit(self, leaf: Leaf, limits: Limits) -> None:
        wanted = (limits.memory + self.room, limits.processes)
        if leaf.limits != wanted:
            (leaf.folder / "memory.max").write_text(str(wanted[0]))
            (leaf.folder / "pids.max").write_text(str(wanted[1]))
            leaf.limits = wanted


def _kills(events: int) -> int:
    """Return how many processes the kernel has killed for memory in a cgroup."""
    lines = dict(line.split() for line in os.pread(events, 4096, 0).decode().splitlines())
    return int(lines["oom_kill"])
