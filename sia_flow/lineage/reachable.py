"""Which objects of a store are named by a record, and which by none.

Invariant: an object is named if any record holds its id in any field, so that a record of a later version, whose fields
are not known here, keeps what it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sia_flow.lineage.store import Store

_IDS = re.compile(rb'"([0-9a-f]{32}(?:\.dir)?)"')
RECORDS = ("steps", "generations", "arms", "heads")


def reachable(store: Store) -> set[str]:
    """Return the ids of all objects that a record names, and those of a folder's files."""
    named: set[str] = set()
    for kind in RECORDS:
        for path in (store.root / kind).rglob("*.json"):
            named.update(_ids(path))
    for folder in [oid for oid in named if oid.endswith(".dir")]:
        path = store.objects.path(folder)
        if path.is_file():
            named.update(_ids(path))
    return named


def unreachable(store: Store) -> list[str]:
    """Return the ids of the objects that nothing names, in order."""
    kept = reachable(store)
    return sorted(oid for oid in _stored(store) if oid not in kept)


def _ids(path: Path) -> Iterator[str]:
    return (match.decode() for match in _IDS.findall(path.read_bytes()))


def _stored(store: Store) -> Iterator[str]:
    for path in (store.root / "files" / "md5").glob("[0-9a-f][0-9a-f]/[!.]*"):
        yield path.parent.name + path.name
