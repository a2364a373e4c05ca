"""The first start of a private Prefect server, when its database is made.

Prefect's migrations do not survive being killed half-way, nor two servers at once (`duplicate column name`,
for ever). Invariant: one process makes the database; a database without the mark of a finished start is set
aside and made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from importlib.metadata import version
from pathlib import Path

from sia_flow.errors import InfrastructureError
from sia_flow.files import write_atomic


class FirstStart:
    """Holds a lock from before the server starts until it answers, when its database is not ready yet."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._mark = home / "ready"
        self._lock: int | None = None

    def enter(self, seconds: float = 0.0) -> bool:
        """Return whether the server may start; wait so long for another process that is making the database.

        Raises InfrastructureError when `seconds` > 0 have passed in vain.
        """
        deadline = time.monotonic() + seconds
        while not (self._ready() or self._acquire()):
            if time.monotonic() >= deadline:
                if not seconds:
                    return False
                raise InfrastructureError(
                    f"another process has been making {self._home / 'prefect.db'} for {seconds:g} s: "
                    "wait for it or end it, then run the same command again"
                )
            time.sleep(0.1)
        if self._lock is not None and self._ready():
            self.leave()
        elif self._lock is not None and not self._mark.exists():
            self._set_aside()
        return True

    def done(self) -> None:
        """Mark the database as ready and let other processes go on."""
        if self._lock is not None:
            write_atomic(self._mark, version("prefect").encode())
        self.leave()

    def leave(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _ready(self) -> bool:
        # A newer Prefect migrates again, so the mark carries the version.
        return self._mark.exists() and self._mark.read_text(encoding="utf-8") == version("prefect")

    def _acquire(self) -> bool:
        self._home.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    def _set_aside(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            path = self._home / f"prefect.db{suffix}"
            with contextlib.suppress(FileNotFoundError):
                path.replace(self._home / f"unfinished.db{suffix}")
        # Prefect notes there which blocks the database holds already.
        (self._home / "memo_store.toml").unlink(missing_ok=True)
