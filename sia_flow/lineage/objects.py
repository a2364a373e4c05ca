"""Content-addressed objects in DVC's cache layout (`files/md5/ab/cdef...`), so that a DVC cache can point at them.

Invariant: append-only, and an object that is there is whole: it is written under another name, synced and renamed.
No lock is needed, since two writers of one object write the same bytes. Reading checks the hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from sia_flow.errors import StoreError
from sia_flow.files import write_atomic

_OBJECT_ID = re.compile(r"[0-9a-f]{32}(\.dir)?")


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def is_object_id(text: str) -> bool:
    """Say whether a text has the form of an object id."""
    return _OBJECT_ID.fullmatch(text) is not None


def matches(oid: str, data: bytes) -> bool:
    """Say whether bytes are those of an object."""
    return is_object_id(oid) and _md5(data) == oid.removesuffix(".dir")


class ObjectStore:
    """Bytes and folders by the hash of their content."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, oid: str) -> Path:
        """Return where an object lies. Raises StoreError for what is no object id."""
        if not is_object_id(oid):
            raise StoreError(f"{oid!r} is no object id (32 hex digits, `.dir` after them for a folder)")
        return self.root / "files" / "md5" / oid[:2] / oid[2:]

    def has(self, oid: str) -> bool:
        """Say whether the object, and for a folder each of its files, is there."""
        if not self.path(oid).is_file():
            return False
        return not oid.endswith(".dir") or all(self.has(entry["md5"]) for entry in self._entries(oid))

    def members(self, oid: str) -> list[str]:
        """Return the object ids of a folder's files. Raises StoreError where its listing is none."""
        return [entry["md5"] for entry in self._entries(oid)]

    def put_bytes(self, data: bytes) -> str:
        """Store bytes; return their id."""
        return self._put(_md5(data), data)

    def put_tree(self, files: Mapping[str, bytes]) -> str:
        """Store a folder given as relative path -> bytes; return its id (`<md5>.dir`)."""
        for name in files:
            _check_relative(name)
        entries = [{"md5": self.put_bytes(files[name]), "relpath": name} for name in sorted(files)]
        listing = json.dumps(entries, sort_keys=True).encode("utf-8")
        return self._put(_md5(listing) + ".dir", listing)

    def put_folder(self, folder: Path) -> str:
        """Store every regular file below `folder`; return the id of the whole."""
        found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return self.put_tree(found)

    def get_bytes(self, oid: str) -> bytes:
        """Return an object's bytes. Raises StoreError when it is missing or does not match its id."""
        path = self.path(oid)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"object {oid} is missing from {self.root}") from error
        if not matches(oid, data):
            raise StoreError(f"object {oid} in {path} is damaged: its bytes do not match its id; delete the file")
        return data

    def get_text(self, oid: str) -> str:
        """Return an object's bytes as UTF-8 text."""
        return self.get_bytes(oid).decode("utf-8")

    def get_tree(self, oid: str) -> dict[str, bytes]:
        """Return a folder as relative path -> bytes."""
        return {entry["relpath"]: self.get_bytes(entry["md5"]) for entry in self._entries(oid)}

    def get_sources(self, oid: str) -> dict[str, str]:
        """Return a folder of text files as relative path -> text."""
        return {name: data.decode("utf-8") for name, data in self.get_tree(oid).items()}

    def checkout(self, oid: str, target: Path) -> Path:
        """Lay a folder object out as plain files in `target`; return `target`."""
        for name, data in self.get_tree(oid).items():
            path = target / name
            if not (path.is_file() and _md5(path.read_bytes()) == _md5(data)):
                write_atomic(path, data, sync=False)
        return target

    def _entries(self, oid: str) -> list[dict[str, str]]:
        try:
            entries = [(str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(self.get_bytes(oid))]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"object {oid} in {self.path(oid)} is no listing of a folder: delete the file") from error
        for name, _ in entries:
            _check_relative(name)
        return [{"relpath": name, "md5": member} for name, member in entries]

    def _put(self, oid: str, data: bytes) -> str:
        path = self.path(oid)
        if not (path.is_file() and path.stat().st_size == len(data)):
            write_atomic(path, data)
        return oid


def _check_relative(name: str) -> None:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\x00" in name:
        raise StoreError(f"{name!r} is not a relative path inside a folder")
