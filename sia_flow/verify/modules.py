"""Imports a task's modules by path, under the name `tasks.NAME.MODULE`, from the project that was asked for.

Invariant: a module of another project folder with the same name is never handed out, and what runs is what the file
says now. (A compiled file counts as fresh where time, to the second, and size agree; an edit may leave both.)
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from sia_flow.errors import TaskError


def load_object(root: Path, task: str, reference: str) -> Callable[..., object]:
    """Return the class or function that `FILE.py:NAME` names in a task folder. Raises TaskError."""
    file, _, name = reference.partition(":")
    path = root / "tasks" / task / file
    if not path.is_file():
        raise TaskError(f"task {task}: {path} is missing; task.yaml names it as {reference}")
    found: object = getattr(load_module(root, task, path.stem), name, None)
    if not callable(found):
        raise TaskError(f"task {task}: {path} defines no class or function {name}; task.yaml names it as {reference}")
    return found


def load_module(root: Path, task: str, module: str) -> ModuleType:
    """Import `tasks.TASK.MODULE` from the project at `root`. Raises TaskError where it does not import."""
    folder = (root / "tasks" / task).resolve()
    name = f"tasks.{task}.{module}"
    _make_importable(root.resolve(), folder, task)
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise TaskError(f"task {task}: {folder / module}.py does not import: {error}") from error


class _FromSource(SourceFileLoader):
    """Compiles a module each time; reads and leaves no compiled file."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Tasks(MetaPathFinder):
    """Finds the modules of tasks where they always were, and has them loaded from their source."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("tasks."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _FromSource(fullname, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Tasks())


def _make_importable(root: Path, folder: Path, task: str) -> None:
    """Put the project first on sys.path and forget modules of this task that came from elsewhere."""
    if sys.path[0] != str(root):
        sys.path.insert(0, str(root))
        importlib.invalidate_caches()
    ours = [n for n in list(sys.modules) if n == f"tasks.{task}" or n.startswith(f"tasks.{task}.")]
    if any(_is_stranger(sys.modules[name], folder) for name in ours):
        for name in [*ours, "tasks"]:
            sys.modules.pop(name, None)


def _is_stranger(module: ModuleType, folder: Path) -> bool:
    # A namespace package has no file; it may span several projects and is searched in the order of sys.path.
    file = getattr(module, "__file__", None)
    return file is not None and not Path(file).resolve().is_relative_to(folder)
