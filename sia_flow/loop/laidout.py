"""What lies beside the store as plain files, held against it: the folders of `runs/`, checkpoints, laid-out adapters.

Invariant: only bytes that are objects of the store are compared, so that a view written by another version is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sia_flow.lineage.heads import Head
from sia_flow.lineage.store import Store
from sia_flow.loop.view import FolderView


def changed_files(store: Store, view: FolderView, head: Head) -> list[Path]:
    """Return the files of a run's view that are not what the store holds; what is not laid out is no fault.

    Raises StoreError where the store itself is damaged.
    """
    return [path for path, data in _expected(store, view, head) if path.is_file() and path.read_bytes() != data]


def changed_adapters(store: Store, folder: Path) -> list[Path]:
    """Return the adapters laid out for loading that are not what the store holds."""
    found = []
    for place in sorted(folder.glob("*")):
        oid = f"{place.name}.dir"
        if not store.objects.has(oid):
            found.append(place)
            continue
        files = store.objects.get_tree(oid)
        there = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        if there - files.keys() or any((place / name).read_bytes() != files[name] for name in there):
            found.append(place)
    return found


def lay_out(store: Store, view: FolderView, head: Head) -> None:
    """Write a run's view anew from its records. Raises StoreError."""
    for generation_id in head.generations:
        view.generation(head.arm, store.generation(generation_id))
    result = store.arm(head.result) if head.result else None
    if result is not None:
        view.arm_ended(result)


def _expected(store: Store, view: FolderView, head: Head) -> Iterator[tuple[Path, bytes]]:
    objects, folder = store.objects, view.folder(head.arm, head.seed)
    for generation_id in head.generations:
        generation = store.generation(generation_id)
        place = folder / f"gen-{generation.index}"
        yield place / "trajectories.jsonl", objects.get_bytes(generation.trajectories)
        yield from _tree(store, generation.scaffold, place / "scaffold")
        yield from _tree(store, generation.adapter, place / "adapter")
    result = store.arm(head.result) if head.result else None
    if result is None:
        return
    if result.best is not None:
        yield folder / "best_program.py", objects.get_bytes(result.best.answer)
    incumbent, target = store.generation(result.incumbent), view.checkpoints / head.arm / f"seed-{head.seed}"
    yield from _tree(store, incumbent.scaffold, target / "scaffold")
    yield from _tree(store, incumbent.adapter, target / "adapter")


def _tree(store: Store, oid: str | None, folder: Path) -> Iterator[tuple[Path, bytes]]:
    if oid is not None:
        yield from ((folder / name, data) for name, data in store.objects.get_tree(oid).items())
