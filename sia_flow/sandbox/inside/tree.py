"""Process trees by /proc: who descends from whom, how much memory they hold, and killing all of them.

Invariant: `kill` freezes before it kills, so a process that forks while it is hunted cannot get away.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def read(proc: int, name: str) -> bytes:
    """Return a small file below the proc descriptor, empty when the process has gone."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:
        return b""
    try:
        return os.read(handle, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(handle)


def children(proc: int, pid: int) -> list[int]:
    """Return the live and dead children of every thread of a process."""
    try:
        tasks = os.open(f"{pid}/task", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:
        return []
    try:
        threads = os.listdir(tasks)  # noqa: PTH208 - below a descriptor
    except OSError:
        return []
    finally:
        os.close(tasks)
    return [int(child) for thread in threads for child in read(proc, f"{pid}/task/{thread}/children").split()]


def descendants(proc: int, pid: int) -> list[int]:
    """Return everything below `pid`, itself excluded."""
    found: list[int] = []
    left = [pid]
    while left:
        below = children(proc, left.pop())
        found += below
        left += below
    return found


def resident(proc: int, pids: list[int]) -> int:
    """Return the bytes of memory that the processes hold, shared pages counted for each."""
    pages = 0
    for pid in pids:
        fields = read(proc, f"{pid}/statm").split()
        pages += int(fields[1]) if len(fields) > 1 else 0
    return pages * _PAGE


def tasks_of(uid: int) -> int:
    """Return how many threads of all processes belong to a user."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                count += sum(1 for _ in os.scandir(f"{entry.path}/task")) if entry.stat().st_uid == uid else 0
    return count


def send(pids: list[int], number: int) -> None:
    """Signal every process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill(proc: int, pid: int, deadline: float = 5.0) -> None:
    """Kill a process and all that descends from it; give up after `deadline` seconds."""
    end = time.monotonic() + deadline
    frozen: set[int] = set()
    while time.monotonic() < end:
        fresh = [one for one in [pid, *descendants(proc, pid)] if one not in frozen]
        if not fresh:
            break
        send(fresh, signal.SIGSTOP)
        frozen.update(fresh)
    send([one for one in frozen if one != pid], signal.SIGKILL)
    send([pid], signal.SIGKILL)


def reap(own: set[int]) -> None:
    """Kill and collect adopted orphans: children of this process that are not in `own`."""
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    try:
        strays = [one for one in children(proc, os.getpid()) if one not in own]
        while strays:
            for stray in strays:
                kill(proc, stray)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(stray, 0)
            strays = [one for one in children(proc, os.getpid()) if one not in own]
    finally:
        os.close(proc)


def mapped() -> int:
    """Return the bytes of address space that this process has mapped."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * _PAGE
