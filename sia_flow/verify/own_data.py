"""The user's own data, given as a path: named by what it holds, so that neither its name nor its place is part of a
run's identity.

A folder with `meta.json` is a prepared data set and not meant here.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

CHUNK = 1 << 22


def find_own(root: Path, given: str) -> Path | None:
    """Return the file or folder that `given` names, in the project or from the current folder; None for no such."""
    for path in (root / given, Path(given)):
        if path.is_file() or (path.is_dir() and not (path / "meta.json").is_file() and any(path.iterdir())):
            return path.resolve()
    return None


def content_name(path: Path) -> str:
    """Return `own-` and twelve hex digits of the SHA-256 of a file, or of a folder's files with their names."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    seen = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return f"own-{_digest(seen, str(path))[:12]}"


@lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, int, int], ...], base: str) -> str:
    found = hashlib.sha256()
    for name, size, _ in files:
        inside = Path(name).relative_to(base).as_posix() if name != base else ""
        found.update(f"{inside}\0{size}\0".encode())
        with Path(name).open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
    return found.hexdigest()
