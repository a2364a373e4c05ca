"""Files that are whole or absent: written under a temporary name in the same folder, synced, then renamed.

Invariant: of several processes that append to one file, each line stands whole, in the order in which they wrote.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from pathlib import Path

from sia_flow.errors import StoreError


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old file or the new one, never a part.

    Raises StoreError when the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        hint = "; free some space and run the same command again" if error.errno == errno.ENOSPC else ""
        raise StoreError(f"cannot write {path}: {error.strerror}{hint}") from error


def append(path: Path, data: bytes) -> None:
    """Add `data` to the end of a file, under a lock: on a shared folder, appending alone is not atomic.

    Raises OSError.
    """
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(data)
        file.flush()
