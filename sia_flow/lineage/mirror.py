"""Carries a project's records to another place and back, so that a machine without a common folder goes on with them.

Invariants: both sides only ever gain files, since records never change; what comes in is checked before it is written,
objects by their digest, records by their seal, and by their form alone what has neither (answers, heads, records from
before seals were kept); objects come before the records that name them, so that an interrupted transfer leaves a sound
store; what was spent elsewhere counts here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sia_flow.canonical import canonical_json, digest_bytes
from sia_flow.errors import StoreError
from sia_flow.files import append, write_atomic
from sia_flow.lineage.heads import Head
from sia_flow.lineage.objects import matches
from sia_flow.lineage.remote import Place
from sia_flow.lineage.seals import NAME as SEALS
from sia_flow.lineage.seals import read_seals
from sia_flow.lineage.store import VERSION, Store

OBJECTS = ("store/files", "answers")
RECORDS = ("store/steps", "store/generations", "store/arms", "store/readings")
HEADS = "store/heads"
_LINES = (f"store/{SEALS}", "store/journal.jsonl", "spend/*/*.jsonl", "approvals/*.jsonl")
_OWN = "origin"
_FORMAT = "store/VERSION"
_BATCH_BYTES = 64 << 20
_BATCH_FILES = 256

Told = Callable[[int, int], None]
"""Hears of a transfer: files and bytes so far."""


@dataclass(slots=True)
class Carried:
    """What a push or a pull did."""

    files: int = 0
    size: int = 0
    """Bytes of them."""
    there: int = 0
    """Files that the other side had already."""
    differing: list[str] = field(default_factory=list)
    """Runs that went on in two ways; each side keeps its own."""

    def count(self, data: Mapping[str, bytes], told: Told | None) -> None:
        """Add files that were carried."""
        self.files += len(data)
        self.size += sum(map(len, data.values()))
        if told is not None:
            told(self.files, self.size)


def push(state: Path, url: str, told: Told | None = None) -> Carried:
    """Bring to `url` what it lacks of a project's state folder. Raises StoreError, InfrastructureError."""
    place, carried = Place(url), Carried()
    there = place.sizes()
    _check_format(place, there)
    place.write({_FORMAT: f"{VERSION}\n".encode()})
    # Looked up in the other order: what a run adds meanwhile names only what is looked up later.
    heads = {name: path.read_bytes() for name, path in _files(state, [HEADS])}
    found = {kind: _sizes(state, kind) for kind in reversed((*OBJECTS, *RECORDS))}
    for kind in OBJECTS:
        _push_files(state, place, there, found[kind], carried, told)
    place.write(_own_lines(state, place, there))
    for kind in RECORDS:
        _push_files(state, place, there, found[kind], carried, told)
    _push_heads(heads, place, there, carried)
    return carried


def pull(state: Path, url: str, told: Told | None = None) -> Carried:
    """Bring from `url` what a project's state folder lacks. Raises StoreError, InfrastructureError."""
    place, carried = Place(url), Carried()
    there = place.sizes()
    if _FORMAT not in there:
        raise StoreError(f"{url} holds no records of sia-flow: `sia-flow store push` brings some there")
    _check_format(place, there)
    Store(state / "store")
    _pull_files(state, place, there, OBJECTS, carried, told)
    _pull_lines(state, place, there)
    _pull_files(state, place, there, RECORDS, carried, told)
    _pull_heads(state, place, there, carried)
    return carried


# --- files that are written once --------------------------------------------------------------------------------


def _push_files(
    state: Path, place: Place, there: Mapping[str, int], own: Mapping[str, int], carried: Carried, told: Told | None
) -> None:
    # One of another size was cut short there.
    wanted = [name for name in own if there.get(name) != own[name]]
    carried.there += len(own) - len(wanted)
    for batch in _batches(wanted, own):
        data = {name: (state / name).read_bytes() for name in batch}
        place.write(data)
        carried.count(data, told)


def _pull_files(
    state: Path, place: Place, there: Mapping[str, int], kinds: Sequence[str], carried: Carried, told: Told | None
) -> None:
    known = [_checked_name(name) for name in sorted(there) if name.startswith(tuple(f"{kind}/" for kind in kinds))]
    wanted = [name for name in known if not (state / name).is_file()]
    carried.there += len(known) - len(wanted)
    seals = read_seals(state / "store")
    for batch in _batches(wanted, there):
        data = place.read(batch)
        for name in batch:
            _check(name, data[name], seals, place.url)
            write_atomic(state / name, data[name])
        carried.count(data, told)


def _files(state: Path, kinds: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield name and path of every whole file of these kinds, kind by kind."""
    for kind in kinds:
        for path in sorted((state / kind).rglob("[!.]*")):
            if path.is_file():
                yield path.relative_to(state).as_posix(), path


def _sizes(state: Path, kind: str) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in _files(state, [kind])}


def _batches(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Share names out in lots that fit into memory."""
    batch: list[str] = []
    total = 0
    for name in names:
        if batch and (total + sizes[name] > _BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += sizes[name]
    if batch:
        yield batch


def _checked_name(name: str) -> str:
    if any(part in ("", ".", "..") or part.startswith(".") for part in name.split("/")):
        raise StoreError(f"{name!r} is no name of a file of a store")
    return name


def _check(name: str, data: bytes, seals: Mapping[str, frozenset[str]], url: str) -> None:
    """Raise StoreError for bytes that are not those which were once stored under this name."""
    if name.startswith("store/files/"):
        sound = matches("".join(name.split("/")[-2:]), data)
    elif name.startswith("answers/"):
        sound = _is_answer(name, data)
    else:
        sealed = seals.get(name.removeprefix("store/"))
        # From before seals were kept, it is known by its form alone.
        sound = digest_bytes(data) in sealed if sealed else _parsed(data) is not None
    if not sound:
        raise StoreError(f"{url}/{name} is damaged, and was not taken: delete it there, and push it again")


def _is_answer(name: str, data: bytes) -> bool:
    """Say whether bytes are an answer to the call that they are named by; it has no digest of its own."""
    return (_parsed(data) or {}).get("call") == Path(name).stem


def _check_format(place: Place, there: Mapping[str, int]) -> None:
    if _FORMAT not in there:
        return
    text = place.read([_FORMAT])[_FORMAT].strip()
    if not text.isdigit() or int(text) > VERSION:
        raise StoreError(f"the records at {place.url} are of a newer sia-flow (format {text[:20]!r}): upgrade sia-flow")


# --- files that grow by lines -----------------------------------------------------------------------------------


def _origin(state: Path) -> str:
    """Return the name of this state folder, by which its own lines are told from those of others."""
    path = state / _OWN
    if not path.is_file():
        write_atomic(path, secrets.token_hex(8).encode())
    return path.read_text(encoding="ascii")


def _own_lines(state: Path, place: Place, there: Mapping[str, int]) -> dict[str, bytes]:
    """Return the lines that were written here, for the place; what it has of them already stays."""
    origin = _origin(state)
    found = {}
    for path in (path for pattern in _LINES for path in sorted(state.glob(pattern))):
        relative = path.relative_to(state).as_posix()
        name = f"lines/{origin}/{relative}"
        before = _lines(place.read([name])[name]) if name in there else []
        known = set() if relative.startswith("spend/") else _lines_of_others(place, there, name, relative)
        own = [line for line in _lines(path.read_bytes()) if not _is_foreign(line) and line not in known]
        if before or own:
            found[name] = b"".join(line + b"\n" for line in dict.fromkeys([*before, *own]))
    return found


def _lines_of_others(place: Place, there: Mapping[str, int], own: str, relative: str) -> set[bytes]:
    """Return the lines that others brought: whoever pulled them would bring them again, from each new folder."""
    names = [name for name in there if name.startswith("lines/") and name != own]
    files = place.read([name for name in names if name.split("/", 2)[2:] == [relative]])
    return {line for data in files.values() for line in _lines(data)}


def _pull_lines(state: Path, place: Place, there: Mapping[str, int]) -> None:
    """Add the lines of others to the files here."""
    origin = _origin(state)
    for remote in sorted(name for name in there if name.startswith("lines/")):
        _, writer, name = _checked_name(remote).split("/", 2)
        if not any(Path(name).match(pattern) for pattern in _LINES):
            raise StoreError(f"{place.url}/{remote} is no file of a store")
        path = state / name
        known = set(_lines(path.read_bytes())) if path.is_file() else set()
        theirs = _lines(place.read([remote])[remote])
        if writer != origin:
            theirs = [_marked(line, writer) for line in theirs]
        fresh = [line for line in theirs if line not in known]
        if fresh:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                append(path, b"".join(line + b"\n" for line in fresh))
            except OSError as error:
                raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _lines(data: bytes) -> list[bytes]:
    """Return the whole lines of a file; one that a crash cut short is left out."""
    return [line for line in data.splitlines() if _parsed(line) is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _marked(line: bytes, writer: str) -> bytes:
    """Return a line of the books with its writer in the call's id, which is unique in one place only."""
    found = _parsed(line) or {}
    if "usd" not in found or "id" not in found:
        return line
    return canonical_json({**found, "id": f"{writer}/{found['id']}"})


def _is_foreign(line: bytes) -> bool:
    found = _parsed(line) or {}
    return "usd" in found and "/" in str(found.get("id", ""))


# --- heads ------------------------------------------------------------------------------------------------------


def _push_heads(own: Mapping[str, bytes], place: Place, there: Mapping[str, int], carried: Carried) -> None:
    theirs = place.read([name for name in own if name in there])
    for name, data in own.items():
        if name not in theirs or _follows(data, theirs[name]):
            place.write({name: data})
        elif data != theirs[name] and not _follows(theirs[name], data):
            carried.differing.append(_run_of(name))


def _pull_heads(state: Path, place: Place, there: Mapping[str, int], carried: Carried) -> None:
    theirs = place.read([_checked_name(name) for name in there if name.startswith(f"{HEADS}/")])
    for name, data in theirs.items():
        path = state / name
        _head(data)
        own = path.read_bytes() if path.is_file() else None
        if own is None or _follows(data, own):
            write_atomic(path, data)
        elif data != own and not _follows(own, data):
            carried.differing.append(_run_of(name))


def _follows(later: bytes, earlier: bytes) -> bool:
    """Say whether one head is what the other became."""
    one, other = _head(earlier), _head(later)
    if one.generations == other.generations:
        return one.result is None and other.result is not None
    return other.generations[: len(one.generations)] == one.generations


def _head(data: bytes) -> Head:
    try:
        return Head.model_validate_json(data)
    except ValidationError as error:
        raise StoreError(f"a head, here or there, is damaged: run `sia-flow fsck`; it begins {data[:60]!r}") from error


def _run_of(name: str) -> str:
    return name.removeprefix(f"{HEADS}/").removesuffix(".json")
