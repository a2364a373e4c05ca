"""A digest of every record, noted before the record is written, so that a later change of its bytes is found.

Invariant: a record that this store wrote has its seal; one from before seals were kept has none. A seal guards against
accidents: whoever may write the store may write seals, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sia_flow.canonical import canonical_json, digest_bytes
from sia_flow.errors import StoreError
from sia_flow.files import append

NAME = "seals.jsonl"


def add_seal(root: Path, path: Path, data: bytes) -> None:
    """Note the digest of what is about to be written to `path`. Raises StoreError."""
    line = canonical_json({"path": path.relative_to(root).as_posix(), "sha256": digest_bytes(data)}) + b"\n"
    try:
        append(root / NAME, line)
    except OSError as error:
        raise StoreError(f"cannot write {root / NAME}: {error.strerror}; make room and run it again") from error


def read_seals(root: Path) -> Mapping[str, frozenset[str]]:
    """Return path in the store -> digests that it may have, the last sealed path last; cut lines are left out.

    Several stand for one path where a record was set aside and made again.
    """
    try:
        lines = (root / NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"cannot read {root / NAME}: {error.strerror}") from error
    found: dict[str, frozenset[str]] = {}
    for line in lines:
        entry = _parsed(line)
        if entry is not None:
            path, digest = entry
            found[path] = found.pop(path, frozenset()) | {digest}
    return found


def _parsed(line: bytes) -> tuple[str, str] | None:
    try:
        entry = json.loads(line)
        return str(entry["path"]), str(entry["sha256"])
    except (ValueError, KeyError, TypeError):
        return None
