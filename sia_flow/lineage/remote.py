"""A place for a store's files that fsspec reaches: a bucket, a share, a folder.

Invariant: what any library of a place raises comes out as one InfrastructureError that names the place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sia_flow.errors import InfrastructureError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Place:
    """Files below a URL, by their relative names."""

    def __init__(self, url: str) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self.url = url
        with self._spoken():
            found: tuple[AbstractFileSystem, str] = fsspec.url_to_fs(url)
            self._files, root = found
            self._root = root.rstrip("/")
            if isinstance(self._files, LocalFileSystem):
                self._files.auto_mkdir = True

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every file, by name; empty where nothing is there yet."""
        with self._spoken():
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
            return {self._name(path): int(info["size"]) for path, info in found.items()}

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the bytes of files, fetched side by side where the place can."""
        if not names:
            return {}
        with self._spoken():
            found = self._files.cat([f"{self._root}/{name}" for name in names])
            return {self._name(path): data for path, data in found.items()}

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files, side by side where the place can."""
        if files:
            with self._spoken():
                self._files.pipe({f"{self._root}/{name}": data for name, data in files.items()})

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root).lstrip("/")

    @contextlib.contextmanager
    def _spoken(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            raise InfrastructureError(f"{self.url}: {text}") from error
