"""One writer an experiment: an advisory lock that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sia_flow.errors import LockedError


@contextlib.contextmanager
def experiment_lock(folder: Path, experiment: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the experiment's lock for the block.

    Raises LockedError, naming the process that holds it, unless `wait` is set; then it waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{experiment}.lock").open("a+", encoding="utf-8") as file:
        if wait:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _take(file, experiment)
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        file.flush()
        yield


def _take(file: IO[str], experiment: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read()
        with contextlib.suppress(json.JSONDecodeError):
            owner = json.loads(holder)
            holder = f"process {owner['pid']} since {owner['since']}"
        raise LockedError(
            f"experiment {experiment!r} is being applied by {holder}: wait for it (--wait), or stop that process"
        ) from error


def holder(folder: Path, experiment: str) -> int | None:
    """Return the process that holds the experiment's lock, None where nobody does."""
    path = folder / f"{experiment}.lock"
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            with contextlib.suppress(ValueError, KeyError):
                return int(json.load(file)["pid"])
    return None
