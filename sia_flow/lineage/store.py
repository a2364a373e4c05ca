"""The lineage store: objects, step records, generations, arm results.

Invariants: a record is written last, by rename, after its outputs are in the store; a step with a record is never
run again, and no two processes run one step at a time; records are never changed. Times are kept beside the records, in
the journal, and are never hashed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sia_flow.canonical import Json, canonical_json, digest
from sia_flow.errors import StoreError
from sia_flow.files import append, write_atomic
from sia_flow.lineage.claims import claimed, nothing
from sia_flow.lineage.objects import ObjectStore
from sia_flow.lineage.records import Generation, Isolation, Record, Spend
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.seals import add_seal

VERSION = 1
AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True, slots=True)
class Step:
    """A unit of work, named by all that it depends on."""

    name: str
    version: int
    """Raised whenever the code of the step changes what it gives."""
    params: Mapping[str, Any]
    inputs: Mapping[str, str | None]
    """Digests or object ids of what it reads."""
    seed: int

    @property
    def key(self) -> str:
        """SHA-256 of name, version, parameters, inputs and seed."""
        return digest([self.name, self.version, dict(self.params), dict(self.inputs), self.seed])


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step's body gives back."""

    outputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> object id; the objects are in the store already."""
    result: Any = None
    """Small JSON value."""
    spend: Spend = field(default_factory=Spend)
    isolation: Isolation | None = None


class StepRecord(Record):
    """The immutable outcome of a step."""

    kind: str = "sia-flow/step@1"
    key: str
    step: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str | None]
    seed: int
    outputs: Mapping[str, str]
    result: Any = None
    spend: Spend = Spend()
    isolation: Isolation | None = None


class Store:
    """One folder that holds everything that ever happened in a project."""

    rehearsal = False
    """Whether runs on it are only planned."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = ObjectStore(root)
        self._check_version()

    def _check_version(self) -> None:
        path = self.root / "VERSION"
        try:
            found = int(path.read_text(encoding="utf-8")) if path.exists() else None
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is not readable as a version number: {error}") from error
        if found is None:
            write_atomic(path, f"{VERSION}\n".encode())
        elif found > VERSION:
            raise StoreError(
                f"the store in {self.root} was written by a newer sia-flow (format {found}, this one reads "
                f"{VERSION}): upgrade sia-flow, or use another --state folder"
            )

    def find(self, key: str) -> StepRecord | None:
        """Return the record of a step that is done, or None. A record whose objects are gone counts as not done."""
        record = self._read(self._step_path(key), StepRecord)
        if record is None or not all(self.objects.has(oid) for oid in record.outputs.values()):
            return None
        return record

    def run(self, step: Step, body: Callable[[], StepOutput], between: Callable[[], None] = nothing) -> StepRecord:
        """Return the step's record, running `body` only if there is none yet and no other process is at it.

        `between` is called again and again while another process computes it; what it raises ends the wait.
        """
        key = step.key
        found = self.find(key)
        if found is not None:
            return found
        with claimed(self.claims, key, between):
            return self.find(key) or self._compute(key, step, body)

    @property
    def claims(self) -> Path:
        """Folder of the claims on steps that are under way."""
        return self.root / "claims"

    def _compute(self, key: str, step: Step, body: Callable[[], StepOutput]) -> StepRecord:
        started = time.monotonic()
        self._journal("start", step.name, key)
        output = body()
        record = StepRecord(
            key=key,
            step=step.name,
            version=step.version,
            params=dict(step.params),
            inputs=dict(step.inputs),
            seed=step.seed,
            outputs=dict(output.outputs),
            result=output.result,
            spend=output.spend,
            isolation=output.isolation,
        )
        self._write(self._step_path(key), record)
        self._journal("done", step.name, key, seconds=round(time.monotonic() - started, 4))
        return record

    def put_generation(self, generation: Generation) -> bool:
        """Store a generation under its id, and say whether it was not there."""
        return self._write(self._generation_path(generation.id), generation)

    def generation(self, generation_id: str) -> Generation:
        """Return a generation. Raises StoreError when there is none of that id."""
        record = self._read(self._generation_path(generation_id), Generation)
        if record is None:
            raise StoreError(f"generation {generation_id} is not in the store {self.root}")
        return record

    def first(self, generation: Generation) -> Generation:
        """Return generation 0 of a generation's line."""
        while generation.parent is not None:
            generation = self.generation(generation.parent)
        return generation

    def generations(self) -> Iterator[Generation]:
        """Yield every stored generation, in the order of the ids."""
        for path in sorted((self.root / "generations").glob("[!.]*.json")):
            yield self.generation(path.stem)

    def put_arm(self, result: ArmResult) -> None:
        """Store the result of an arm under its key."""
        self._write(self._arm_path(result.key), result)

    def arm(self, key: str) -> ArmResult | None:
        """Return an arm's result, or None while it is not finished."""
        return self._read(self._arm_path(key), ArmResult)

    def arms(self) -> Iterator[ArmResult]:
        """Yield the result of every finished arm, in the order of the keys."""
        for path in sorted((self.root / "arms").glob("[!.]*.json")):
            found = self.arm(path.stem)
            if found is not None:
                yield found

    def put_beside(self, path: Path, record: Record) -> None:
        """Store a record of another kind, at its own path in the store."""
        self._write(path, record)

    def journal(self) -> Iterator[Mapping[str, Any]]:
        """Yield the journal's entries, oldest first; a line that a crash cut short is left out."""
        path = self.root / "journal.jsonl"
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def _journal(self, event: str, step: str, key: str, **more: float) -> None:
        entry: dict[str, Json] = {
            "event": event,
            "step": step,
            "key": key,
            "pid": os.getpid(),
            "at": round(time.time(), 3),
            **more,
        }
        try:
            append(self.root / "journal.jsonl", canonical_json(entry) + b"\n")
        except OSError as error:
            raise StoreError(f"cannot write the journal of {self.root}: {error.strerror}") from error

    def _step_path(self, key: str) -> Path:
        return self.root / "steps" / key[:2] / f"{key}.json"

    def _generation_path(self, generation_id: str) -> Path:
        return self.root / "generations" / f"{generation_id}.json"

    def _arm_path(self, key: str) -> Path:
        return self.root / "arms" / f"{key}.json"

    def _write(self, path: Path, record: Record) -> bool:
        data = canonical_json(record.model_dump(mode="json")) + b"\n"
        if path.is_file() and path.read_bytes() == data:
            return False
        add_seal(self.root, path, data)
        write_atomic(path, data)
        return True

    @staticmethod
    def _read(path: Path, kind: type[AnyRecord]) -> AnyRecord | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        try:
            return kind.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(
                f"{path} is damaged ({error.error_count()} faults): run `sia-flow fsck --repair`, or delete it; "
                "it is made anew"
            ) from error
