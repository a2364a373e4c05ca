"""Names for what is in the store: the latest generations of each experiment, arm and seed, and how they were asked for.

Invariant: a head points, like a branch of git: it may be written again and holds nothing that the records do not,
except the resolved spec and the versions of what ran it, from which the run can be made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from sia_flow.canonical import canonical_json
from sia_flow.errors import StoreError
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Record
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store


class Head(Record):
    """One experiment, arm and seed: its generations so far, and all that is needed to make them again."""

    kind: Literal["sia-flow/head@1"] = "sia-flow/head@1"
    experiment: str
    arm: str
    seed: int
    levers: tuple[str, ...] = ()
    control: str | None = None
    generations: tuple[str, ...] = ()
    """Generation ids in order."""
    result: str | None = None
    """Key of the arm's result, none while it is not finished."""
    spec: Mapping[str, Any] = Field(default_factory=dict)
    """The resolved spec, JSON; empty for a run from before heads were written."""
    inputs: Mapping[str, str] = Field(default_factory=dict)
    """Digests of task, data, verifier and base."""
    versions: Mapping[str, str] = Field(default_factory=dict)
    """Versions of what ran it: `python`, and the packages that can change a result."""

    @property
    def name(self) -> str:
        """The name that people write: `denoise/SIA-H/seed-0`."""
        return f"{self.experiment}/{self.arm}/seed-{self.seed}"


def head_path(store: Store, experiment: str, arm: str, seed: int) -> Path:
    """Return where a head lies."""
    return store.root / "heads" / experiment / arm / f"seed-{seed}.json"


def read_head(store: Store, experiment: str, arm: str, seed: int) -> Head | None:
    """Return a head, or None where there is none. Raises StoreError for a damaged one."""
    path = head_path(store, experiment, arm, seed)
    return _read(path) if path.is_file() else None


def write_head(store: Store, head: Head) -> None:
    """Write a head in place of the one of its name."""
    data = canonical_json(head.model_dump(mode="json")) + b"\n"
    path = head_path(store, head.experiment, head.arm, head.seed)
    if not (path.is_file() and path.read_bytes() == data):
        write_atomic(path, data)


def heads(store: Store, experiment: str | None = None) -> list[Head]:
    """Return the heads by experiment, arm and seed; finished arms from before heads were written come as bare ones."""
    found = {head.name: head for head in _stored(store, experiment)}
    for result in store.arms():
        if experiment is None or result.experiment == experiment:
            bare = bare_head(result)
            found.setdefault(bare.name, bare)
    return sorted(found.values(), key=lambda head: (head.experiment, head.control or "", head.arm, head.seed))


def bare_head(result: ArmResult) -> Head:
    """Return the head that a result alone gives."""
    return Head(
        experiment=result.experiment,
        arm=result.arm,
        seed=result.seed,
        control=result.control,
        generations=result.generations,
        result=result.key,
    )


def _stored(store: Store, experiment: str | None) -> Iterator[Head]:
    folder = store.root / "heads"
    for path in sorted(folder.glob(f"{experiment or '*'}/*/seed-*.json")):
        yield _read(path)


def _read(path: Path) -> Head:
    try:
        return Head.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(f"{path} is damaged: delete it; the next apply of its experiment writes it anew") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
