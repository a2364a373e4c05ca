"""Every digest and every link of a store, checked; what is broken is named, with what would mend it.

Invariant: checking changes nothing. What rests on something broken is broken too, so that after a repair the next
`apply` finds no record whose foundations are gone, and makes again what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from sia_flow.canonical import digest_bytes
from sia_flow.errors import StoreError
from sia_flow.lineage.heads import Head
from sia_flow.lineage.objects import is_object_id
from sia_flow.lineage.records import FORK, Generation, Record
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.seals import read_seals
from sia_flow.lineage.store import Step, StepRecord, Store

Remedy = Literal["remove", "set aside", "cut", "none"]
"""What mends it: the file goes, or is kept out of the way, or a head is cut to what is there; or nothing can."""
AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it must be."""

    path: str
    """In the store's folder."""
    what: str
    remedy: Remedy


@dataclass(slots=True)
class Findings:
    """What a check found."""

    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Kind -> how many were looked at."""
    unsealed: int = 0
    """Records from before seals were kept: their bytes cannot be told from edited ones."""


def check_store(store: Store) -> Findings:
    """Check objects, then records in the order in which they rest on each other."""
    return _Check(store).run()


class _Check:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.found = Findings()
        self.seals: Mapping[str, frozenset[str]] = read_seals(store.root)
        self.objects: set[str] = set()
        self.steps: dict[str, StepRecord] = {}
        self.generations: dict[str, Generation] = {}
        self.arms: set[str] = set()

    def run(self) -> Findings:
        self._left_over()
        self._objects()
        for step in self._each("steps", StepRecord, lambda record: record.key, self._step):
            self.steps[step.key] = step
        read = list(self._each("generations", Generation, lambda record: record.id, self._generation))
        self.generations = {one.id: one for one in read}
        self._ancestors()
        for arm in self._each("arms", ArmResult, lambda record: record.key, self._arm):
            self.arms.add(arm.key)
        for _ in self._each("heads", Head, None, self._head):
            pass
        self._readings()
        return self.found

    def fault(self, path: Path, what: str, remedy: Remedy) -> None:
        self.found.faults.append(Fault(path.relative_to(self.store.root).as_posix(), what, remedy))

    def _left_over(self) -> None:
        for path in sorted(self.store.root.rglob(".*")):
            if path.is_file():
                self.fault(path, "left over from a writer that was killed", "remove")

    def _objects(self) -> None:
        folders: list[str] = []
        paths = sorted((self.store.root / "files" / "md5").glob("*/[!.]*"))
        self.found.counts["objects"] = len(paths)
        for path in paths:
            oid = path.parent.name + path.name
            if not is_object_id(oid):
                self.fault(path, "no object: its name is no digest", "set aside")
                continue
            try:
                self.store.objects.get_bytes(oid)
            except (StoreError, OSError):
                self.fault(path, "its bytes do not match its name", "set aside")
                continue
            folders += [oid] if oid.endswith(".dir") else []
            self.objects.add(oid)
        for oid in folders:
            self._folder(oid)

    def _folder(self, oid: str) -> None:
        path = self.store.objects.path(oid)
        try:
            missing = [file for file in self.store.objects.members(oid) if file not in self.objects]
        except StoreError as error:
            self.fault(path, str(error), "set aside")
            self.objects.discard(oid)
            return
        if missing:
            self.fault(path, f"{len(missing)} of its files are not in the store, {missing[0]} first", "set aside")
            self.objects.discard(oid)

    def _each(
        self,
        kind: str,
        model: type[AnyRecord],
        name: Callable[[AnyRecord], str] | None,
        fault: Callable[[AnyRecord], tuple[str, Remedy] | None],
    ) -> Iterator[AnyRecord]:
        """Yield the sound records of a kind; note what is wrong with the others."""
        paths = sorted(path for path in (self.store.root / kind).rglob("*.json") if not path.name.startswith("."))
        self.found.counts[kind] = len(paths)
        for path in paths:
            record, said = self._parsed(path, model)
            if record is None:
                self.fault(path, said, "set aside")
            elif name is not None and name(record) != path.stem:
                self.fault(path, f"its name and its key differ: it says {name(record)[:12]}", "set aside")
            elif name is not None and (edited := self._edited(path)):
                self.fault(path, edited, "set aside")
            elif (broken := fault(record)) is not None:
                self.fault(path, *broken)
            else:
                yield record

    def _parsed(self, path: Path, model: type[AnyRecord]) -> tuple[AnyRecord | None, str]:
        try:
            return model.model_validate_json(path.read_bytes()), ""
        except ValidationError as error:
            return None, f"no record that can be read ({error.error_count()} faults)"
        except OSError as error:
            return None, f"cannot be read: {error.strerror}"

    def _edited(self, path: Path) -> str:
        seals = self.seals.get(path.relative_to(self.store.root).as_posix())
        if seals is None:
            self.found.unsealed += 1
            return ""
        return "" if digest_bytes(path.read_bytes()) in seals else "changed since it was written"

    def _step(self, record: StepRecord) -> tuple[str, Remedy] | None:
        named = Step(record.step, record.version, record.params, record.inputs, record.seed).key
        if named != record.key:
            return f"step {record.step}: its key does not follow from what it says it read", "set aside"
        gone = self._gone(*record.outputs.values())
        return (f"step {record.step}: its output {gone} is gone", "set aside") if gone else None

    def _gone(self, *oids: str | None) -> str:
        """Return the first of the objects that is not in the store, or nothing."""
        return next((oid for oid in oids if oid is not None and oid not in self.objects), "")

    def _generation(self, one: Generation) -> tuple[str, Remedy] | None:
        gone = self._gone(one.scaffold, one.adapter, one.trajectories, one.best_answer)
        if gone:
            return f"generation {one.index}: its object {gone} is gone", "set aside"
        for name, key in one.steps.items():
            if name != FORK and key not in self.steps:
                return f"generation {one.index}: the record of its step {name} is gone", "set aside"
        return self._figures(one)

    def _figures(self, one: Generation) -> tuple[str, Remedy] | None:
        for split, score in (("train", one.train), ("select", one.select)):
            verify = self.steps.get(one.steps.get(f"verify {split}", ""))
            if verify is not None and verify.result != score.model_dump(mode="json"):
                return f"generation {one.index}: its {split} score is not what its step measured", "set aside"
        rollout = self.steps.get(one.steps.get("rollout train", ""))
        if rollout is not None and rollout.outputs.get("trajectories") != one.trajectories:
            return f"generation {one.index}: its trajectories are not those of its step", "set aside"
        return None

    def _ancestors(self) -> None:
        """Drop generations whose parent is gone, until the rest stand on each other."""
        while orphans := [one for one in self.generations.values() if self._cut_off(one)]:
            for one in orphans:
                path = self.store.root / "generations" / f"{one.id}.json"
                self.fault(path, f"generation {one.index}: its parent or origin is gone", "set aside")
                del self.generations[one.id]

    def _cut_off(self, one: Generation) -> bool:
        return any(name is not None and name not in self.generations for name in (one.parent, one.steps.get(FORK)))

    def _arm(self, result: ArmResult) -> tuple[str, Remedy] | None:
        name = f"{result.experiment}/{result.arm}/seed-{result.seed}"
        gone = [one for one in (*result.generations, result.incumbent) if one not in self.generations]
        if gone:
            return f"{name}: generation {gone[0][:12]} is gone", "set aside"
        if result.incumbent not in result.generations:
            return f"{name}: its incumbent is none of its generations", "set aside"
        if result.select != self.generations[result.incumbent].select:
            return f"{name}: its select score is not its incumbent's", "set aside"
        lost = self._gone(result.best.answer) if result.best else ""
        return (f"{name}: its best program {lost} is gone", "set aside") if lost else None

    def _readings(self) -> None:
        """Readings of the sealed split can be made again by nobody: what is wrong with one is said and left."""
        root = self.store.root
        kept = {path.relative_to(root).as_posix(): path for path in sorted(root.glob("readings/*/*.json"))}
        self.found.counts["readings"] = len(kept)
        for path in kept.values():
            if self._edited(path):
                self.fault(path, "a reading of the sealed split is not as it was put on record", "none")
        # Of the last seal, the writer may have been killed before it came to the record.
        for name in list(self.seals)[:-1]:
            if name.startswith("readings/") and name not in kept and "/reading-" in name:
                self.fault(root / name, "a reading of the sealed split was on record and is gone", "none")

    def _head(self, head: Head) -> tuple[str, Remedy] | None:
        gone = [one for one in head.generations if one not in self.generations]
        if gone:
            return f"{head.name}: points to generation {gone[0][:12]}, which is gone", "cut"
        if head.result is not None and head.result not in self.arms:
            return f"{head.name}: points to the result {head.result[:12]}, which is gone", "cut"
        return None
