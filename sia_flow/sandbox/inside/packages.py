"""Imports the packages of the image and no other that lies beside them.

Invariant: names are resolved once, before the first job; a job that asks for another name gets
ModuleNotFoundError, whatever the folder holds.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution, DistributionFinder


class PackageFinder(importlib.abc.MetaPathFinder):
    """Finds the given top-level names, each in its folder; what is below them is found as usual."""

    def __init__(self, imports: Mapping[str, Sequence[str]], metadata: Sequence[str]) -> None:
        self._metadata = {_plain(Path(path).name.partition("-")[0]): path for path in metadata}
        found = importlib.machinery.PathFinder.find_spec
        specs = {name: found(name, [folder]) for folder, names in imports.items() for name in names}
        self._specs = {name: spec for name, spec in specs.items() if spec is not None}
        for folder in imports:
            sys.path_importer_cache.pop(folder, None)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a top-level module of the image."""
        del target
        return self._specs.get(fullname) if path is None else None

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Return the metadata of the packages, for those that ask for their own version."""
        from importlib.metadata import PathDistribution

        wanted = list(self._metadata) if context.name is None else [_plain(context.name)]
        return [PathDistribution(Path(self._metadata[name])) for name in wanted if name in self._metadata]


def _plain(name: str) -> str:
    """Return a distribution's name in the form by which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()
