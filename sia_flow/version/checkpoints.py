"""An experiment's checkpoints as one tracked output: `models/checkpoints/EXPERIMENT.dvc`.

Invariant: a checkpoint that stands there already with equal content is not touched, so that publishing
again costs little and changes nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from sia_flow.errors import StoreError
from sia_flow.version.repository import with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo

FOLDER = Path("models") / "checkpoints"
# DVC takes `*` to match a folder itself, unlike git, hence `?*`.
GITIGNORE = ("/models/?*", "!/models/checkpoints/", "/models/checkpoints/?*", "!/models/checkpoints/?*.dvc")
ADVICE = f"these lines in .gitignore keep out the rest: {' '.join(GITIGNORE)}"


class Published(NamedTuple):
    """What was published."""

    file: Path
    """The `.dvc` file, for git."""
    digest: str
    """DVC's MD5 of the tree, with the suffix `.dir`."""


def checkpoint_key(arm: str, seed: int, generation: int) -> str:
    """Return the place of a checkpoint below its experiment."""
    return f"{arm}/seed-{seed}/gen-{generation}"


def publish_checkpoints(
    root: Path, experiment: str, dirs: Mapping[str, Path] | None = None, seconds: float = 60.0
) -> Published:
    """Copy `dirs` (place below the experiment -> folder) to the experiment's tree and track it as one output.

    Without `dirs`, what lies in the tree already is tracked. Raises StoreError if there is nothing to track
    or git ignores the `.dvc` file, LockedError when another DVC process holds the project for `seconds`.
    """
    tree = root / FOLDER / experiment
    for place, source in (dirs or {}).items():
        _copy(source, _inside(tree, place))
    if not any(tree.rglob("*")):
        raise StoreError(f"nothing to publish: {tree} is empty; run the experiment first")
    digest = with_repo(root, lambda repo: _add(repo, tree), seconds)
    if not with_repo(root, lambda repo: _seen(repo, tree), seconds):
        raise StoreError(f"DVC does not see {tree}.dvc, since git ignores its folder; {ADVICE}")
    return Published(tree.with_name(f"{experiment}.dvc"), digest)


def _seen(repo: Repo, tree: Path) -> bool:
    return any(Path(output.fs_path) == tree.resolve() for output in repo.index.outs)


def _add(repo: Repo, tree: Path) -> str:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        (stage,) = repo.add(str(tree))
    except LockError:
        raise
    except DvcException as error:
        advice = f"; {ADVICE}" if "git-ignored" in str(error) else ""
        raise StoreError(f"DVC cannot track {tree}: {error}{advice}") from error
    return str(stage.outs[0].hash_info.value)


def _inside(tree: Path, place: str) -> Path:
    parts = PurePosixPath(place).parts
    if not parts or place.startswith("/") or ".." in parts:
        raise StoreError(f"{place!r} is no place for a checkpoint: give a path such as SIA-H/seed-0/gen-1")
    return tree.joinpath(*parts)


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise StoreError(f"there is no checkpoint at {source}")
    if _content(target) == _content(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    # Plain copies with fresh modes: the store's objects are read-only, a published checkpoint need not be.
    shutil.copytree(source, fresh, dirs_exist_ok=True, copy_function=shutil.copyfile)
    fresh.chmod(0o755)
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)


def _content(folder: Path) -> dict[str, bytes] | None:
    if not folder.is_dir():
        return None
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
