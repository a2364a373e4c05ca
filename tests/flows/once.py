"""Folders that are made once for all workers of a test run, since they take long to make."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder that `make` fills, by whichever worker asks first; nobody may change it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", os.getpid())
    place = Path(tempfile.gettempdir()) / f"sia-flow-{name}-{run}"
    place.mkdir(exist_ok=True)
    folder = place / "folder"
    with (place / "making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not (place / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (place / "made").touch()
        # Held to the end of this process: who ends last removes it.
        users = os.open(place / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(users, fcntl.LOCK_SH)
    atexit.register(_leave, place, users)
    return folder


def _leave(place: Path, users: int) -> None:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(place, ignore_errors=True)
