"""What a verifier's process is given: what it may read, where it may write, its environment, its memory.

Invariant: an allow-list. Of the host's environment go on what sets threads, language and time zone; of the project,
the task's own folder and its data.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sia_flow.sandbox.exposure import CONFIGURATION, interpreter

ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "LANG", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "TZ")
PREFIXES = ("BLIS_", "KMP_", "LC_", "MKL_", "NUMBA_", "OMP_", "OPENBLAS_")
MACHINE = ("/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", "/etc/localtime", "/usr/share/zoneinfo")
"""What numerical libraries read to learn how many threads are worth while, and the time zone."""
PACKAGE = Path(__file__).resolve().parents[2]
SITES = ("site-packages", "dist-packages")
GIB = 1 << 30


def orders(root: Path, task: str, data: Path, scratch: Path) -> dict[str, Any]:
    """Return what the process is told of paths."""
    shown, installed = interpreter(), paths()
    folder = (root / "tasks" / task).resolve()
    own = [str(path) for path in (folder, data.resolve(), *_linked(folder), *_linked(data.resolve()))]
    own += [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    return {
        "path": [path for path in installed if Path(path) != root],
        "imports": beside(),
        "readable": [*shown.own, *shown.system, *CONFIGURATION, *MACHINE, *installed, *_loose(), str(PACKAGE), *own],
        "listable": [str((root / "tasks").resolve())],
        "writable": [str(scratch)],
    }


def environment(scratch: Path) -> dict[str, str]:
    """Return the process's whole environment; nothing in it can be a key."""
    kept = {n: v for n, v in os.environ.items() if n in ENVIRONMENT or n.startswith(PREFIXES)}
    home = {name: str(scratch) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    return {"LANG": "C.UTF-8", "PATH": os.defpath, **kept, **home, "NUMBA_CACHE_DIR": str(scratch / "numba")}


@functools.cache
def memory() -> int:
    """Return the bytes that the process may hold: half of the machine's, two gibibytes at least."""
    return max(2 * GIB, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


def paths() -> list[str]:
    """Return the entries of this process's path that hold the standard library and installed packages."""
    homes = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)}
    found = []
    for entry in dict.fromkeys(sys.path):
        path = Path(entry)
        below = any(path.is_relative_to(home / name) for home in homes for name in ("lib", "lib64"))
        if entry and path.exists() and (below or path.name in SITES):
            found.append(entry)
    return found


def beside() -> dict[str, list[str]]:
    """Return what can be imported of the other entries, by entry: projects under development, as a rule."""
    return {str(entry): [_module(path) for path in found] for entry, found in _modules().items()}


def _loose() -> list[str]:
    return [str(path) for found in _modules().values() for path in found]


def _modules() -> Mapping[Path, list[Path]]:
    """Return the modules of each other entry; of two of one name the first counts, as it does here."""
    installed, seen = set(paths()), set[str]()
    found = {}
    for entry in (Path(entry).resolve() for entry in dict.fromkeys(sys.path) if entry and entry not in installed):
        there = list(_importable(entry)) if entry.is_dir() else []
        found[entry] = [path for path in there if _module(path) not in seen]
        seen |= {_module(path) for path in there}
    return found


def _importable(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        module = path.suffix in {".py", ".so"} and path.is_file()
        if module or (path / "__init__.py").is_file():
            yield path


def _module(path: Path) -> str:
    return path.name.partition(".")[0]


def _linked(folder: Path) -> Iterator[Path]:
    """Yield the targets of the links in a folder: a cache of data, say."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink():
            yield path.resolve()
