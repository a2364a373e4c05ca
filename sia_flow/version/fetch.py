"""What DVC has of a data set or a base model, laid out in the project: from its cache, else from its remote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sia_flow.version.repository import with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo


def fetch(root: Path, folder: Path, seconds: float = 60.0) -> bool:
    """Lay out a tracked folder as the lock file has it; return whether DVC had it. Raises LockedError."""
    if not any((root / name).is_file() for name in ("dvc.yaml", "dvc.lock")):
        return False
    return with_repo(root, lambda repo: _fetch(repo, folder), seconds)


def _fetch(repo: Repo, folder: Path) -> bool:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    for lay_out in (repo.checkout, repo.pull):
        try:
            lay_out(targets=[str(folder)], force=True)
        except LockError:
            raise
        except DvcException:
            # Not tracked, not in this place, or no remote: the next place, else it is built.
            continue
        if folder.is_dir():
            return True
    return False
