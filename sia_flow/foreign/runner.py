"""Runs a foreign evaluator's folder in the sandbox and hears one bounded JSON object from it.

Invariant: nothing of the folder is imported or executed on the host. What an evaluator sends is hostile, for it shares
its process with the candidate where its own contract wants that.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from sia_flow.errors import TaskError
from sia_flow.protocols import Call, Image, Job, Limits, Sandbox, Session
from sia_flow.sandbox.open import open_sandbox
from sia_flow.sandbox.strict_json import Caps, HostileJsonError, parse

INSIDE = Path(__file__).parent / "inside"
SOURCE = "from foreign_harness import main as solve\n"
REPLY = Caps(64 << 10, 6, 2000)
SENT = 16 << 20
LEVEL = 2
"""Evaluators write files, and only at this level does a job have a scratch folder."""
LIMITS = Limits(wall=60.0, cpu=60.0, memory=2 << 30)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a JSON object, or why there is none; and the text that was sent beside it."""

    value: Mapping[str, Any] | None
    reason: str = "ok"
    error: str = ""
    sent: str = ""
    stdout: str = ""


@dataclass(slots=True)
class _Post:
    """Takes in the pieces of text that a job sends."""

    parts: list[str] = field(default_factory=list)
    size: int = 0

    def serve(self, calls: Sequence[Call]) -> list[Any]:
        """Answer the calls of a round."""
        return [self._take(call) for call in calls]

    def _take(self, call: Call) -> Any:
        text = call.params.get("text")
        if call.method != "tool:write" or not isinstance(text, str):
            return ValueError("there is no such tool")
        self.size += len(text)
        if self.size > SENT:
            return ValueError(f"more than {SENT} characters were sent")
        self.parts.append(text)
        return None


class ForeignRunner:
    """A warm sandbox that holds one evaluator's folder. A context manager.

    `files` maps paths to contents; `packages` names the installed packages that the evaluator may import. Raises
    TaskError where one of them is missing or the sandbox cannot hold it.
    """

    def __init__(self, files: Mapping[str, bytes], packages: Sequence[str], limits: Limits = LIMITS) -> None:
        self._files = dict(files)
        self._packages = tuple(dict.fromkeys(("numpy", *packages)))
        self._limits = limits
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, kind: str, seed: int = 0, **params: Any) -> Reply:
        """Run one of the harness's kinds in a fresh process. Raises InfrastructureError."""
        post = _Post()
        job = Job(SOURCE, "solve", instance={"kind": kind, **params}, seed=seed)
        (outcome,) = self._open().run([job], self._limits, post.serve)
        if outcome.status != "OK" or not isinstance(outcome.value, str):
            return Reply(None, outcome.status.lower(), outcome.error, stdout=outcome.stdout)
        try:
            value = parse(outcome.value.encode(), REPLY)
        except HostileJsonError as error:
            return Reply(None, "bad_result", f"the evaluator's result is no plain JSON: {error}", stdout=outcome.stdout)
        if not isinstance(value, dict):
            return Reply(None, "bad_result", "the evaluator's result is no JSON object", stdout=outcome.stdout)
        return Reply(value, sent="".join(post.parts), stdout=outcome.stdout)

    def close(self) -> None:
        """End the sandbox."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self) -> Session:
        if self._session is None:
            packed = np.frombuffer(_pack({**standins(), **self._files}), dtype=np.uint8)
            harness = (INSIDE / "harness.py").read_text(encoding="utf-8")
            image = Image({"foreign_harness": harness}, self._packages, "foreign_harness:warm", {"folder": packed})
            self._session = _sandbox().open(image, 1)
        return self._session


class Runner(Protocol):
    """Runs one evaluator's folder, wherever the sandbox is."""

    def call(self, kind: str, seed: int = 0, **params: Any) -> Reply:
        """Run one of the harness's kinds in a fresh process. Raises InfrastructureError."""

    def close(self) -> None:
        """End the sandbox."""


Opener = Callable[[Mapping[str, bytes], Sequence[str]], Runner]
_opener: list[Opener] = [ForeignRunner]


def open_runner(files: Mapping[str, bytes], packages: Sequence[str]) -> Runner:
    """Return what runs the evaluator in a folder with these files; see `ForeignRunner`."""
    return _opener[0](files, packages)


def run_by(opener: Opener) -> None:
    """Have evaluators run by others from now on: a process that is confined itself can open no sandbox."""
    _opener[0] = opener


@cache
def standins() -> Mapping[str, bytes]:
    """Return our stand-ins for the frameworks' own packages, which are found after any installed one."""
    found = sorted((INSIDE / "standins").rglob("*.py"))
    return {path.relative_to(INSIDE).as_posix(): path.read_bytes() for path in found}


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, by path. Raises TaskError where it is not there."""
    if not folder.is_dir():
        raise TaskError(f"{folder} is missing; run `sia-flow task import` again")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@cache
def _sandbox() -> Sandbox:
    return open_sandbox(LEVEL)


def _pack(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
