"""`sia-flow gc`: remove what no record needs: objects of killed steps, scratch folders, half-written files.

Invariant: records are never removed, nor an object that one names; nothing is removed while an experiment runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory

if TYPE_CHECKING:
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project


def command(
    *,
    dry: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would go, remove nothing.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Remove what is left over: objects that no record names, scratch of killed steps, laid-out adapters.

    What is removed can be made again or was never used. It takes the locks of all experiments, and is refused while one
    of them runs (exit code 5).

    Examples: sia-flow gc --dry-run; sia-flow gc
    """
    from sia_flow.cli.lookup import open_store
    from sia_flow.lineage.locks import experiment_lock

    project, store = open_store(directory)
    with ExitStack() as stack:
        for path in sorted(project.locks.glob("*.lock")):
            stack.enter_context(experiment_lock(project.locks, path.stem))
        found = {**dict(_objects(store)), **dict(_left_over(project, store))}
        if not dry:
            for path in found:
                _remove(path)
    total = sum(found.values())
    if as_json:
        typer.echo(json.dumps({"removed": not dry, "bytes": total, "paths": [str(path) for path in found]}))
        return
    if dry:
        for path, size in found.items():
            typer.echo(f"{size:>12,}  {path.relative_to(project.root)}")
    typer.echo(f"{'would free' if dry else 'freed'} {total / 1e6:.1f} MB in {len(found)} files and folders")


def _objects(store: Store) -> Iterator[tuple[Path, int]]:
    from sia_flow.lineage.reachable import unreachable

    for oid in unreachable(store):
        path = store.objects.path(oid)
        yield path, path.stat().st_size


def _left_over(project: Project, store: Store) -> Iterator[tuple[Path, int]]:
    """Yield scratch folders, laid-out adapters, and the files and claims that a killed writer left."""
    for name in ("work", "adapters", "reproduced"):
        for folder in sorted((project.state / name).glob("*")):
            yield folder, _size(folder)
    for path in (*sorted(store.root.rglob(".*")), *sorted(store.claims.glob("*.claim"))):
        if path.is_file():
            yield path, path.stat().st_size


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
