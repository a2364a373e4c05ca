"""Which installed packages an image needs: those that `Image.preload` names and all that they require.

Invariant: a path is listed only when a needed distribution recorded it as its own, so the data of what else
is installed beside it stays out of the sandbox.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class Item(NamedTuple):
    """A file or folder of an installed package."""

    site: str
    """Folder that it was installed into."""
    name: str
    """Path below `site`."""

    @property
    def path(self) -> str:
        """Where it is on the host."""
        return os.path.join(self.site, self.name)  # noqa: PTH118 - a string for mounts and rules


@cache
def items(modules: tuple[str, ...]) -> tuple[Item, ...]:
    """Return what must be shown so that these modules can be imported; what nobody installed is left out."""
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    owners = [owner for owner in map(_owner, sorted(tops)) if owner is not None]
    found = [item for one in required(owners) for item in _items(one)]
    return tuple(dict.fromkeys(found))


def required(names: Iterable[str]) -> list[Distribution]:
    """Return the named distributions and all that they require here, markers and extras heeded, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    left = [(name, "") for name in names]
    while left:
        name, extra = left.pop()
        one = _installed(name)
        if (name, extra) in seen or one is None:
            continue
        seen.add((name, extra))
        found[name] = one
        for text in one.requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(wanted.name), more) for more in ("", *wanted.extras)]
    return [found[name] for name in sorted(found)]


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _owner(module: str) -> str | None:
    """Return the distribution that installed a top-level module.

    Most are called alike. The others are looked up in the records' text, since `packages_distributions` takes
    seconds in a large environment.
    """
    pattern = re.compile(rf"^{re.escape(module)}(/|\.py$|\.[^/]*so$|$)", re.MULTILINE)
    alike = _installed(module)
    for one in (*([alike] if alike is not None else []), *distributions()):
        if pattern.search("\n".join(_record(one))):
            return canonicalize_name(one.metadata["Name"])
    return None


def _record(one: Distribution) -> list[str]:
    """Return a distribution's files, relative to its site folder; a Linux distribution keeps no record."""
    text = one.read_text("RECORD")
    if text is not None:
        return [line.rsplit(",", 2)[0].strip('"') for line in text.splitlines()]
    tops = (one.read_text("top_level.txt") or one.metadata["Name"]).split()
    site = _site(one)
    return [path.name for top in tops for mark in (top, f"{top}.*") for path in site.glob(mark)]


def _site(one: Distribution) -> Path:
    return Path(str(one.locate_file("")))


def _items(one: Distribution) -> Iterator[Item]:
    site = _site(one)
    files = [name.split("/") for name in _record(one) if not name.startswith(("../", "/"))]
    for path in _owned(site, files):
        yield Item(str(site), str(path.relative_to(site)))


def _owned(folder: Path, files: Sequence[Sequence[str]]) -> Iterator[Path]:
    """Return the recorded files as few paths; a folder shared with other packages is split."""
    groups: dict[str, list[Sequence[str]]] = {}
    for head, *tail in files:
        groups.setdefault(head, []).extend([tail] if tail else [])
    for head, tails in groups.items():
        path = folder / head
        if not path.exists():
            continue
        if not tails or _is_whole(path, {tail[0] for tail in tails}):
            yield path
        else:
            yield from _owned(path, tails)


def _is_whole(folder: Path, recorded: set[str]) -> bool:
    """Return whether a folder belongs to one package: it is one, or holds nothing that was not recorded."""
    return (folder / "__init__.py").exists() or {one.name for one in folder.iterdir()} <= recorded
