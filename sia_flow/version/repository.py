"""A project as a DVC repository: its settings, and a quiet handle that waits for other DVC processes.

Invariants: nothing is staged in git, nothing is written outside of the project (DVC would use /var/tmp),
outputs stay plain writable files. Works in a git repository and without one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sia_flow.errors import LockedError
from sia_flow.files import write_atomic

# Links of type hardlink or symlink would make the workspace's files read-only; reflinks do not.
CONFIG = """\
[core]
    analytics = false
    check_update = false
    autostage = false
[cache]
    type = "reflink,copy"
"""
IGNORED = "/config.local\n/tmp\n/cache\n"
DVCIGNORE = "/.venv\n/.sia-flow\n/runs\n/mlruns\n/dist\n/build\n**/__pycache__\n"
Result = TypeVar("Result")


def ensure_repo(root: Path) -> None:
    """Make `root` a DVC repository if it is none; what is there is left as it is."""
    for path, text in ((".dvc/config", CONFIG), (".dvc/.gitignore", IGNORED), (".dvcignore", DVCIGNORE)):
        if not (root / path).exists():
            write_atomic(root / path, text.encode())
    local = root / ".dvc" / "config.local"
    if not local.exists():
        # The path is this machine's, so it stands in the file that git ignores; `dvc repro` reads it as well.
        write_atomic(local, f"[core]\n    site_cache_dir = {site_cache(root)}\n".encode())


def site_cache(root: Path) -> Path:
    """Return where DVC keeps its indices and locks for this project."""
    return root.resolve() / ".sia-flow" / "dvc"


def with_repo(root: Path, use: Callable[[Any], Result], seconds: float = 60.0) -> Result:
    """Return `use(repo)` of the project's `dvc.repo.Repo`, trying again while another process holds its lock.

    Raises LockedError after `seconds`.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    ensure_repo(root)
    logging.getLogger("dvc").setLevel(logging.ERROR)
    core = {"site_cache_dir": str(site_cache(root)), "no_scm": not in_git(root)}
    deadline = time.monotonic() + seconds
    while True:
        try:
            with Repo(str(root), config={"core": core}) as repo:
                return use(repo)
        except LockError as error:
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"another DVC process has held {root / '.dvc' / 'tmp' / 'lock'} for {seconds:g} s: "
                    "wait for it or end it, then run the same command again"
                ) from error


def in_git(root: Path) -> bool:
    """Return whether `root` lies in a git working tree."""
    return any((folder / ".git").exists() for folder in (root.resolve(), *root.resolve().parents))
