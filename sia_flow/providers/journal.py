"""The journal of spending: a reservation before each call, its settlement after it, one JSON line each.

Invariants: a reservation is on the disk before its call is made; a reservation without an end counts in full, so
that a run that was killed never forgets what may have been billed; lines are only ever added, by one process at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from sia_flow.canonical import canonical_json
from sia_flow.errors import StoreError

State = Literal["open", "settled", "lost", "released"]


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays: a role, in an arm and seed. What all arms of a seed share has no arm."""

    arm: str | None
    seed: int
    role: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One call as the books have it."""

    id: str
    call: str
    """Digest of the call."""
    account: Account
    model: str
    state: State
    usd: float
    """Reserved while it is open or lost, else what it cost."""
    tokens: int
    """The same of tokens."""
    priced: bool = True
    """False where the model's price is not known, so that `usd` says nothing."""
    writer: str = ""
    """`host:process` of who reserved it."""


class Journal:
    """The books of one experiment, in one file that several processes may write to.

    `entries` are as of the last look at the file; a block of `exclusive` begins with one, and nobody else writes in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._seen = 0
        """Bytes of the file that the entries are made of."""
        self._torn = False
        self._held: IO[bytes] | None = None
        try:
            with path.open("rb") as file:
                # Not to read half a line of somebody who writes.
                fcntl.flock(file, fcntl.LOCK_SH)
                self._look(file)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error

    def entries(self) -> list[Entry]:
        """Return every call in the order of their reservations, those that cost nothing left out."""
        return [entry for entry in self._entries.values() if entry.state != "released"]

    def open_entries(self) -> list[Entry]:
        """Return the calls whose end is not known."""
        return [entry for entry in self._entries.values() if entry.state == "open"]

    @contextmanager
    def exclusive(self) -> Iterator[IO[bytes]]:
        """Keep everybody else from writing for the block, having read what they wrote before. Raises StoreError."""
        with self._lock:
            if self._held is not None:
                yield self._held
                return
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = self.path.open("a+b")
            except OSError as error:
                raise self._unwritable(error) from error
            with file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._look(file)
                self._held = file
                try:
                    yield file
                finally:
                    self._held = None

    def reserve(self, entry: Entry) -> Entry:
        """Write a reservation down and return it with its id. Raises StoreError."""
        with self.exclusive():
            numbered = replace(entry, id=f"{entry.call[:16]}-{len(self._entries)}", state="open")
            self._write({"event": "reserve", **_plain(numbered)}, sync=True)
        return numbered

    def settle(self, entry: Entry, usd: float, tokens: int) -> None:
        """Write down what a reserved call cost."""
        self._write({"event": "settled", "id": entry.id, "usd": usd, "tokens": tokens})

    def lose(self, entry: Entry) -> None:
        """Write down that nobody knows what a reserved call cost: it counts as reserved."""
        self._write({"event": "lost", "id": entry.id, "usd": entry.usd, "tokens": entry.tokens})

    def release(self, entry: Entry) -> None:
        """Write down that a reserved call was not billed."""
        self._write({"event": "released", "id": entry.id, "usd": 0.0, "tokens": 0})

    def _write(self, line: dict[str, Any], *, sync: bool = False) -> None:
        """Add a line. An end that a power cut takes away leaves its call open, which counts in full: no wait for it."""
        made: dict[str, Any] = {"at": round(time.time(), 3), "pid": os.getpid(), "host": socket.gethostname()}
        data = canonical_json({**line, **made}) + b"\n"
        with self.exclusive() as file:
            try:
                # What a crash cut short must not swallow the line that comes after it.
                file.write(b"\n" + data if self._torn else data)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            except OSError as error:
                raise self._unwritable(error) from error
            self._look(file)

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"cannot write {self.path}: {error.strerror}; no call is made unrecorded")

    def _look(self, file: IO[bytes]) -> None:
        """Take in what the file holds beyond what was seen."""
        file.seek(self._seen)
        data = file.read()
        if not data:
            return
        self._seen += len(data)
        self._torn = not data.endswith(b"\n")
        try:
            for line in _parsed(data):
                self._apply(line)
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path} has a line that is none of the books' ({error}): mend or move it, for what it says counts"
            ) from error

    def _apply(self, line: dict[str, Any]) -> None:
        if line["event"] == "reserve":
            account = Account(line["arm"], line["seed"], line["role"])
            self._entries[line["id"]] = Entry(
                id=line["id"],
                call=line["call"],
                account=account,
                model=line["model"],
                state="open",
                usd=line["usd"],
                tokens=line["tokens"],
                priced=line["priced"],
                writer=f"{line.get('host', '')}:{line.get('pid', '')}",
            )
        elif line["id"] in self._entries:
            entry = self._entries[line["id"]]
            changes = replace(entry, state=line["event"], usd=line["usd"], tokens=line["tokens"])
            self._entries[line["id"]] = changes


def _parsed(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def totals(entries: Iterable[Entry]) -> tuple[float, int]:
    """Return the dollars and tokens of calls, open ones as reserved."""
    usd, tokens = 0.0, 0
    for entry in entries:
        usd, tokens = usd + entry.usd, tokens + entry.tokens
    return usd, tokens


def _plain(entry: Entry) -> dict[str, Any]:
    account = entry.account
    who = {"arm": account.arm, "seed": account.seed, "role": account.role}
    what = {"id": entry.id, "call": entry.call, "model": entry.model, "priced": entry.priced}
    return {**who, **what, "usd": entry.usd, "tokens": entry.tokens}
