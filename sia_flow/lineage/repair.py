"""Mends a store as far as it can be mended: leftovers go, what is broken is set aside, heads point to what is there.

Invariant: nothing but leftovers is deleted; what is set aside lies below `aside/`, where no reader looks, and the next
`apply` makes it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sia_flow.errors import StoreError
from sia_flow.lineage.check import Fault, check_store
from sia_flow.lineage.heads import Head, write_head
from sia_flow.lineage.store import Store

ASIDE = "aside"


def mend(store: Store, faults: Sequence[Fault]) -> list[Fault]:
    """Mend what can be mended and return the faults that are left. Raises StoreError where the store cannot be written.

    `faults` are of a check that nothing has changed since.
    """
    for fault in faults:
        path = store.root / fault.path
        try:
            if fault.remedy == "remove":
                path.unlink(missing_ok=True)
            elif fault.remedy == "set aside":
                _set_aside(store, path)
        except OSError as error:
            raise StoreError(f"cannot mend {path}: {error.strerror}; see who owns the store's folder") from error
    for fault in faults:
        if fault.remedy == "cut":
            _cut(store, store.root / fault.path)
    return check_store(store).faults


def _set_aside(store: Store, path: Path) -> None:
    target = store.root / ASIDE / path.relative_to(store.root)
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while target.exists():
        number += 1
        target = target.with_name(f"{path.name}.{number}")
    path.rename(target)


def _cut(store: Store, path: Path) -> None:
    """Point a head to as many of its generations as are there."""
    head = Head.model_validate_json(path.read_bytes())
    there = [(store.root / "generations" / f"{one}.json").is_file() for one in head.generations]
    kept = head.generations[: there.index(False)] if False in there else head.generations
    write_head(store, head.model_copy(update={"generations": kept, "result": None}))
