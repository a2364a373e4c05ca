"""A benchmark task: the folder tasks/NAME of a project and what can be had from it.

Invariant: the digest covers every source file of the folder, so nothing of a task can change under a run's
identity.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sia_flow.canonical import digest, digest_bytes
from sia_flow.errors import TaskError
from sia_flow.protocols import Image, Instance, TaskTools, Verifier
from sia_flow.verify.manifest import Manifest, read_manifest
from sia_flow.verify.modules import load_object
from sia_flow.verify.own_data import content_name, find_own

if TYPE_CHECKING:
    from sia_flow.verify.apart.client import ApartVerifier
    from sia_flow.verify.apart.held import Bounds
    from sia_flow.verify.edits import TaskEdit
    from sia_flow.verify.probes import Probe

SOURCES = (".py", ".md", ".yaml")


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the project at `root`."""

    root: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.manifest.name

    @property
    def folder(self) -> Path:
        """The task's folder."""
        return self.root / "tasks" / self.name

    @property
    def digest(self) -> str:
        """Hash of the task's source files, their names included."""
        files = sorted(p for p in self.folder.rglob("*") if p.suffix in SOURCES and p.is_file())
        return digest({p.relative_to(self.folder).as_posix(): digest_bytes(p.read_bytes()) for p in files})

    def description(self) -> str:
        """Return what agents read about the task. Raises TaskError where it is missing."""
        return _read(self.folder / self.manifest.description)

    def reference(self) -> dict[str, str]:
        """Return the reference scaffold, path -> text. Raises TaskError where there is none."""
        folder = self.folder / self.manifest.scaffold
        files = {p.relative_to(folder).as_posix(): _read(p) for p in sorted(folder.rglob("*.py"))}
        if "scaffold.py" not in files:
            raise TaskError(f"task {self.name}: {folder}/scaffold.py is missing")
        return files

    def verifier(
        self,
        mode: str | None,
        data_dir: Path,
        bounds: Bounds | None = None,
        warn: Callable[[str], None] | None = None,
        *,
        wait: bool = True,
    ) -> ApartVerifier:
        """Return the verifier of a mode (None: the default) on a prepared data set, in a process of its own.

        `warn` hears of answers that it failed on. Raises TaskError; with `wait` off what only building it shows is
        raised when it is first used.
        """
        from sia_flow.verify.apart.client import ApartVerifier
        from sia_flow.verify.apart.held import Place

        mode = mode or self.manifest.mode
        if mode not in self.manifest.modes:
            raise TaskError(f"task {self.name} has no mode {mode!r}{_suggest(mode, self.manifest.modes)}")
        found = ApartVerifier(Place(self.root, self.name, mode, data_dir), bounds, warn)
        return found.ready() if wait else found

    def build(self, mode: str, data_dir: Path) -> Verifier:
        """Return the task's own verifier, in this process, which is to be one that was made for it. Raises TaskError.

        Who wants a verifier calls `verifier`.
        """
        build = load_object(self.root, self.name, self.manifest.verifier)
        methods = (*VERIFIER_METHODS, *(("score_text",) if self.manifest.answer.type == "text" else ()))
        if not isinstance(build, type) or not all(callable(getattr(build, m, None)) for m in methods):
            wanted = ", ".join(methods)
            raise TaskError(
                f"task {self.name}: {self.manifest.verifier} is no verifier; it must be a class with {wanted}"
            )
        return cast("Verifier", build(mode, data_dir))

    def data_dir(self, root: Path, data: str | None = None) -> Path:
        """Return where a data set of the task lies in a project: by name (None: the default), or a path.

        A path to a prepared folder is that folder; of any other file or folder the prepared form lies in a folder
        named by its content. Raises TaskError.
        """
        name = data or self.manifest.data
        if name in self.manifest.data_sets:
            return root / "data" / self.name / name
        if (own := find_own(root, name)) is not None:
            return root / "data" / self.name / content_name(own)
        if (path := root / name).is_dir():
            return path
        known = _suggest(name, self.manifest.data_sets)
        raise TaskError(f"task {self.name} has no data set {name!r}, nor is there such a file or folder{known}")

    def data_source(self, root: Path, data: str | None = None) -> str:
        """Return what `prepare` is to be given for a data set: its name, or the path of the user's own data."""
        name = data or self.manifest.data
        own = None if name in self.manifest.data_sets else find_own(root, name)
        return name if own is None else str(own)

    def prepare(self, name: str, out: Path) -> Mapping[str, Any]:
        """Make a data set of the task under `out` and return its meta. Raises TaskError."""
        return cast("Mapping[str, Any]", load_object(self.root, self.name, self.manifest.prepare)(name, out))

    def image(self, instances: Sequence[Instance]) -> Image:
        """Return the sandbox image: the toolkit and the public arrays of the instances, nothing private."""
        arrays = {array_name(i, name): array for i in instances for name, array in i.arrays.items()}
        kit = self.manifest.kit
        if kit is None:
            return Image(preload=("numpy",), arrays=arrays)
        return Image({kit.module: _read(self.folder / kit.file)}, kit.preload, kit.warm, arrays)

    def pairs(self, seed: int, count: int) -> Iterator[tuple[str, str]]:
        """Yield (prompt, completion) pairs of the task's corpus. Raises TaskError where it has none."""
        if self.manifest.corpus is None:
            raise TaskError(f"task {self.name} has no corpus; the tiny policy cannot be made for it")
        return cast("Iterator[tuple[str, str]]", load_object(self.root, self.name, self.manifest.corpus)(seed, count))

    def probes(self) -> tuple[Probe, ...]:
        """Return the answers that must not pay."""
        if self.manifest.probes is None:
            return ()
        return cast("tuple[Probe, ...]", load_object(self.root, self.name, self.manifest.probes)())

    def base_pairs(self, data_dir: Path, seed: int) -> Iterator[tuple[str, str]]:
        """Yield the pairs that the task's own base is trained on. Raises TaskError where it has none."""
        base = self.manifest.base
        if base is None:
            raise TaskError(f"task {self.name} names no base of its own in task.yaml")
        draw = load_object(self.root, self.name, base.pairs)
        return cast("Iterator[tuple[str, str]]", draw(data_dir, seed, base.count))

    def edits(self) -> tuple[TaskEdit, ...]:
        """Return the structural edits that the task brings; none where the catalogue for programs serves it."""
        if self.manifest.edits is None:
            return ()
        return cast("tuple[TaskEdit, ...]", load_object(self.root, self.name, self.manifest.edits)())

    def tools(self, verifier: Verifier) -> TaskTools | None:
        """Return the tools that scaffolds have beside `score_visible`, or None; made from the task's own verifier.

        Who wants tools asks the verifier that `verifier` returned.
        """
        if self.manifest.tools is None:
            return None
        return cast("TaskTools", load_object(self.root, self.name, self.manifest.tools)(verifier))


VERIFIER_METHODS = ("instances", "visible", "score", "baselines", "guards")


def load_task(root: Path, name: str) -> Task:
    """Return the task tasks/NAME of the project at `root`. Raises TaskError that lists what there is."""
    known = task_names(root)
    if name not in known:
        there = _suggest(name, known) if known else f"; {root / 'tasks'} holds no task"
        raise TaskError(f"there is no task {name!r} in {root}{there}")
    return Task(root, read_manifest(root / "tasks" / name / "task.yaml"))


def task_names(root: Path) -> list[str]:
    """Return the names of the tasks of a project, sorted."""
    return sorted(path.parent.name for path in (root / "tasks").glob("*/task.yaml"))


def array_name(instance: Instance, name: str) -> str:
    """Return the name that an instance's array has in a sandbox image."""
    return f"{instance.id}:{name}"


def _suggest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} There are: {', '.join(sorted(known))}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {error}") from error
