"""A folder of records of one kind, one file a key, written whole: what was brought from outside is asked for once.

Invariant: a record is on disk before anybody acts on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from sia_flow.canonical import canonical_json
from sia_flow.errors import StoreError
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Record

Kind = TypeVar("Kind", bound=Record)


class Kept(Generic[Kind]):
    """Records of one kind by key, a digest; `again` says what deleting one comes to."""

    def __init__(self, root: Path, kind: type[Kind], again: str) -> None:
        self.root = root
        self._kind = kind
        self._again = again

    def find(self, key: str) -> Kind | None:
        """Return the record of a key, or None. Raises StoreError for one that is damaged."""
        path = self._path(key)
        try:
            return self._kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise StoreError(f"{path} is damaged: delete it; {self._again}") from error

    def put(self, key: str, record: Kind) -> None:
        """Store a record. Raises StoreError."""
        write_atomic(self._path(key), canonical_json(record.model_dump(mode="json")) + b"\n")

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.json"
