"""What of the host a sandbox is shown: shared libraries, the standard library, and the packages of the image.

Invariant: an allow-list. Nothing of a home folder, of /var, /run or the project is in it, and of installed
packages only those that the image names with what they require; folders of packages that lie inside a shown
folder are holes.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sia_flow.protocols import Image
from sia_flow.sandbox import packages
from sia_flow.sandbox.packages import Item

CONFIGURATION = ("/etc/ld.so.cache", "/etc/alternatives")
SITE = "/sandbox/site-packages"
_PROGRAMS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/lib32")
_ROOT_LIBRARIES = ("/lib", "/lib64", "/lib32")
_PACKAGE_FOLDERS = ("site-packages", "dist-packages", "ensurepip")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The system's folders and this Python's own."""

    program: str
    """The interpreter itself, outside any virtual environment."""
    system: tuple[str, ...]
    """Folders that everyone may enter."""
    links: tuple[tuple[str, str], ...]
    """Folders that are symbolic links, with their targets."""
    own: tuple[str, ...]
    """Files and folders beyond the system's, the standard library first."""
    holes: tuple[str, ...]
    """Folders inside those that hold installed packages."""


@cache
def interpreter() -> Interpreter:
    """Return what this Python needs to run without any installed package."""
    program = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    places = [Path(place) for place in (*_PROGRAMS, *_libraries(), *_ROOT_LIBRARIES)]
    system = tuple(str(place) for place in places if place.is_dir() and not place.is_symlink())
    links = tuple((str(place), str(place.readlink())) for place in places if place.is_symlink())
    standard = _standard_library()
    own = [*standard, program, *_shared_objects()]
    return Interpreter(
        program,
        system,
        links,
        tuple(path for path in dict.fromkeys(own) if not _below(path, system)),
        tuple(_holes((*standard, *system))),
    )


def readable(image: Image, site: str | None = None) -> tuple[list[str], list[str]]:
    """Return, for Landlock, what a job may read and which folders it may only list.

    Packages lie below `site`, or each in a folder of its own.
    """
    shown = interpreter()
    split = [path for path in (*shown.own, *shown.system) if any(_below(hole, [path]) for hole in shown.holes)]
    paths = [part for path in (*shown.own, *shown.system) for part in _around(path, shown.holes)]
    items = packages.items(image.preload)
    paths += [*CONFIGURATION, *(f"{site}/{item.name}" if site else item.path for item in items)]
    return paths, [*split, *_namespaces(items, site)]


def imports(items: Sequence[Item], site: str | None) -> dict[str, list[str]]:
    """Return the names that can be imported by the folder where they are found: `site`, or each one's own."""
    found: dict[str, list[str]] = {}
    for item in items:
        top = item.name.partition("/")[0].partition(".")[0]
        if top.isidentifier() and top != "__pycache__":
            names = found.setdefault(site or item.site, [])
            names += [top] if top not in names else []
    return found


def metadata(items: Sequence[Item], site: str | None) -> list[str]:
    """Return the folders of the packages' metadata, below `site` or each one's own."""
    return [os.path.join(site or one.site, one.name) for one in items if one.name.endswith(".dist-info")]  # noqa: PTH118


def _namespaces(items: Sequence[Item], site: str | None) -> list[str]:
    """Return the folders between a site folder and its items, which an import has to list."""
    found = [str(Path(site or item.site, parent)) for item in items for parent in Path(item.name).parents[:-1]]
    return list(dict.fromkeys(path for path in found if not path.endswith("__pycache__")))


def _libraries() -> tuple[str, ...]:
    """Return the folders of shared libraries; on a multiarch system /usr/lib itself holds other programs."""
    arch = Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "none")
    return (str(arch), *_LIBRARIES[1:]) if arch.is_dir() else _LIBRARIES


def _standard_library() -> list[str]:
    variables = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    variables |= {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
    names = ("stdlib", "platstdlib")
    return list(dict.fromkeys(sysconfig.get_path(name, vars=variables) for name in names))


def _shared_objects() -> Iterator[str]:
    for prefix in dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, "/usr/local")):
        for folder in ("lib", "lib64"):
            yield from sorted(str(path) for path in Path(prefix, folder).glob("*.so*"))


def _holes(folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        for name in _PACKAGE_FOLDERS:
            for mark in (name, f"python*/{name}"):
                yield from sorted(str(path) for path in Path(folder).glob(mark) if path.is_dir())


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _around(path: str, holes: Sequence[str]) -> list[str]:
    """Return paths that cover `path` but for the holes."""
    if path in holes:
        return []
    if not any(_below(hole, [path]) for hole in holes):
        return [path]
    return [part for child in sorted(os.scandir(path), key=str) for part in _around(child.path, holes)]
