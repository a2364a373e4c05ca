"""Claims: one process at a time computes what has a key, and the others wait for what it finds.

Invariant: a claim is a lock of the kernel on a file of its own, so it ends with the process that holds it, however that
dies. On a shared folder the file system must pass such locks (flock) on to other hosts, as NFS 4 does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from sia_flow.errors import StoreError

FIRST, LONGEST = 0.02, 0.5
"""Seconds between two looks at a claim that somebody else holds: at first, and at most."""


def nothing() -> None:
    """Do nothing between two looks."""


@contextlib.contextmanager
def claimed(folder: Path, key: str, between: Callable[[], None] = nothing, longest: float = LONGEST) -> Iterator[None]:
    """Hold the claim on a key for the block, waiting until it is free; `between` is called while it is not.

    `longest` is the most seconds between two looks.

    Whoever waited has to look first whether the work is done by now. What `between` raises ends the wait. Raises
    StoreError where the folder cannot be written or holds no locks.
    """
    path, pause = folder / f"{key}.claim", FIRST
    while (file := _take(path)) is None:
        between()
        time.sleep(pause)
        pause = min(longest, 1.5 * pause)
    with file:
        try:
            yield
        finally:
            # Before the lock goes: whoever waits finds the file gone, and opens the next one.
            path.unlink(missing_ok=True)


def is_claimed(folder: Path, key: str) -> bool:
    """Say whether somebody, as far as this machine's kernel knows, holds the claim on a key."""
    try:
        with (folder / f"{key}.claim").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _take(path: Path) -> IO[bytes] | None:
    """Return the locked file of a claim, or None where it is held."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(file, path):
            file.truncate(0)
            file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
            file.flush()
            return file
    except BlockingIOError:
        pass
    except OSError as error:
        file.close()
        raise StoreError(
            f"{path} cannot be locked: {error.strerror}; the store needs a file system with flock"
        ) from error
    file.close()
    return None


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Say whether an open file is still the one at its path."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
