"""What a run asked a person, and what was answered: one JSON line each, in one file an experiment.

Invariants: lines are only ever added, synced before anyone goes by them, and read under a lock by whoever adds one;
an answer holds for the decision that it was given for, and a person's answer is never taken back.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from sia_flow.canonical import canonical_json
from sia_flow.errors import SpecError, StoreError
from sia_flow.lineage.records import Lever

Word = Literal["yes", "no", "go", "stop"]
"""A person's `yes` or `no`; `go` or `stop` by the spec, where nobody answered in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a question ended."""

    word: Word
    by: str
    at: float
    """Seconds since the epoch; shown, never hashed."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A pull that waits for a yes."""

    id: str
    """Digest of the decision, its step and its place: what an answer holds for."""
    arm: str
    seed: int
    index: int
    """Of the generation that the pull would make."""
    action: str
    reason: str
    """The decision's own."""
    why: str
    """Why a person is asked."""
    levers: tuple[Lever, ...]
    usd: float
    """What the arm has spent, with the forecast."""
    by: str = ""
    at: float = 0.0
    pid: int = 0
    answer: Answer | None = None

    @property
    def name(self) -> str:
        """What people read."""
        return f"{self.arm} seed {self.seed} gen {self.index}"


class Approvals:
    """The questions of one experiment. Several processes may read and write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def questions(self) -> list[Question]:
        """Return every question, the one that was asked last at the end. Raises StoreError."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror}") from error
        return _questions(data)

    def waiting(self) -> list[Question]:
        """Return the questions without an answer; of each arm and seed, which wait with one at a time, the last."""
        last = {(question.arm, question.seed): question for question in self.questions()}
        return [question for question in last.values() if question.answer is None]

    def find(self, question: str) -> Question | None:
        """Return a question by its id."""
        return next((q for q in self.questions() if q.id == question), None)

    def ask(self, question: Question) -> None:
        """Put a question on record; one that a killed run asked is asked again."""
        asked = replace(question, by=whoami(), at=round(time.time(), 3), pid=os.getpid(), answer=None)
        with self._locked() as file:
            self._add(file, {"event": "asked", **asdict(asked)})

    def settle(self, question: str, word: Word, by: str, note: str = "") -> Answer:
        """Answer a question and return the answer that stands: an earlier one, where there is one."""
        with self._locked() as file:
            held = self.find(question)
            if held is not None and held.answer is not None:
                return held.answer
            return self._answered(file, question, word, by, note)

    def answer(self, question: str, word: Word, note: str = "") -> Answer:
        """Take a person's answer. Raises SpecError where none is asked for, or one was given."""
        with self._locked() as file:
            held = self.find(question)
            if held is None:
                raise SpecError(f"nothing waits for an answer under {question[:12]}: see `sia-flow status`")
            # What ended by its timeout may still be allowed by a person: nobody has decided on it.
            if held.answer is not None and held.answer.word != "stop":
                raise SpecError(_already(held, held.answer, word))
            return self._answered(file, question, word, whoami(), note)

    def _answered(self, file: IO[bytes], question: str, word: Word, by: str, note: str) -> Answer:
        found = Answer(word, by, round(time.time(), 3), note)
        self._add(file, {"event": "answered", "id": question, **asdict(found)})
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}; nothing was asked or answered") from error

    def _add(self, file: IO[bytes], line: dict[str, Any]) -> None:
        """Add a line; what a crash cut short must not swallow it."""
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        torn = file.read(1) not in (b"", b"\n")
        file.write((b"\n" if torn else b"") + canonical_json(line) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def approvals_of(state: Path, experiment: str) -> Approvals:
    """Return the questions of an experiment, in a project's state folder."""
    return Approvals(state / "approvals" / f"{experiment}.jsonl")


def whoami() -> str:
    """Return who asks or answers: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _already(held: Question, answer: Answer, word: Word) -> str:
    """Say why an answer comes too late."""
    if answer.word == "go":
        return f"{held.name} went on by itself, for nobody had answered in time: `sia-flow stop` ends the run"
    if answer.word == word:
        return f"{held.name} was answered before: {word}, by {answer.by}; there is nothing to add"
    change = "to stop the run there is `sia-flow stop`" if word == "no" else "a `fork` may go on from its incumbent"
    return f"{held.name} was answered before, by {answer.by}: {answer.word}. That stands; {change}"


def _questions(data: bytes) -> list[Question]:
    found: dict[str, Question] = {}
    for line in data.splitlines():
        try:
            entry = json.loads(line)
            event, name = entry.pop("event"), entry["id"]
            if event == "asked":
                # Asked again: to the end, and an answer that stands goes with it.
                held = found.pop(name, None)
                entry["levers"] = tuple(entry["levers"])
                found[name] = replace(Question(**entry), answer=held.answer if held else None)
            elif name in found:
                del entry["id"]
                found[name] = replace(found[name], answer=Answer(**entry))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # cut short by a crash: it was not acted on
    return list(found.values())
