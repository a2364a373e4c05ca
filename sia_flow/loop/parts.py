"""A batch of rollouts, or of answers to verify, divided among its own worker and those that have nothing else to do.

Invariants: a part gives the same whoever takes it, so no record depends on that; each part is taken under a claim, so
one whose taker died is free again; granted services and timed programs stay with the worker whose step it is, and so
does what is marked so, the reading at an arm's end.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from sia_flow.canonical import canonical_json
from sia_flow.errors import InfrastructureError, StoreError
from sia_flow.files import write_atomic
from sia_flow.lineage.claims import claimed, nothing
from sia_flow.lineage.jsonl import dump_lines, load_lines
from sia_flow.lineage.records import Isolation, Record, Split, Trajectory, Verdict
from sia_flow.loop.hands import offers_dir
from sia_flow.loop.lab import Lab
from sia_flow.loop.serving import load_sampler
from sia_flow.protocols import Instance, Sampler
from sia_flow.rollout.engine import Work

if TYPE_CHECKING:
    from sia_flow.policy.local import LocalPolicy

LEAST = 8
"""Answers that are worth handing over."""
LOOK = 0.05
"""Seconds between two looks at a part that another worker is at, at most."""
OFFER = "offer.json"
ADAPTER = "adapter"

Found = TypeVar("Found", bound=Record)


@dataclass(frozen=True, slots=True)
class Rolled:
    """A scaffold on a policy, and what it is rolled out on."""

    scaffold: Mapping[str, str]
    policy: Sampler
    split: Split
    instances: int
    """How many instances of the split the work is on."""
    step: str
    """Key of the step."""
    adapter: str | None = None
    """Object id of the policy's adapter."""
    training: bool = False
    """Whether the adapter is the policy's own, as it is now."""
    alone: bool = False
    """Whether nobody may help."""


class Offer(Record):
    """A divided batch, as another worker reads it: rollouts of a scaffold, or answers."""

    split: Split
    instances: int
    parts: tuple[tuple[int, int], ...]
    """First of each part, and the one after its last."""
    isolation: Isolation
    scaffold: str | None = None
    """Object id; None where answers are to be verified."""
    adapter: str | None = None
    version: str | None = None
    """Name of the weights, where they lie beside the offer."""
    work: tuple[tuple[str, int, int, str | None], ...] = ()
    """Instance, sample, seed and start of each rollout."""
    answers: tuple[tuple[str, str], ...] = ()
    """Instance and answer."""


def roll(lab: Lab, rolled: Rolled, work: Sequence[Work], most: int, told: Callable[[int], None]) -> list[Trajectory]:
    """Return one trajectory for each piece of work, in order; `told` hears how many are there.

    `most` of them go through the policy together where the spec does not say. Raises InfrastructureError.
    """
    engine = lab.engine(rolled.split, rolled.step)
    # What goes through the policy together decides the last bits of its log-probabilities: not by who is free.
    parts = divided(len(work), lab.spec.rollouts.batch or most)

    def here(part: tuple[int, int]) -> list[Trajectory]:
        return engine.run(rolled.scaffold, rolled.policy, work[slice(*part)])

    if len(parts) < 2 or not (lab.hands.free and _may_be_shared(lab, rolled)):
        found: list[Trajectory] = []
        for part in parts:
            found += here(part)
            told(len(found))
        return found
    offer = Offer(
        split=rolled.split,
        instances=rolled.instances,
        parts=parts,
        isolation=lab.isolation,
        scaffold=lab.store.objects.put_tree({name: text.encode() for name, text in rolled.scaffold.items()}),
        adapter=rolled.adapter,
        version=rolled.policy.version if rolled.training else None,
        work=tuple((item.instance.id, item.sample, item.seed, item.start) for item in work),
    )
    policy = cast("LocalPolicy", rolled.policy) if rolled.training else None
    return _shared(lab, offer, Trajectory, here, told, policy)


def verify(lab: Lab, split: Split, instances: int, items: Sequence[tuple[Instance, str | None]]) -> list[Verdict]:
    """Return the verdict of each (instance, answer), in order; `instances` of the split are there to choose from.

    Raises InfrastructureError.
    """
    scorer, answer, free = lab.scorer, lab.task.manifest.answer, lab.hands.free
    if free and answer.type == "program" and not answer.timed:
        missing = scorer.missing(items)
        pairs = list(missing.values())
        parts = divided(len(pairs), max(LEAST, -(-len(pairs) // (free + 1))))
        if len(parts) > 1:
            offer = Offer(
                split=split,
                instances=instances,
                parts=parts,
                isolation=lab.isolation,
                answers=tuple((instance.id, answer) for instance, answer in pairs),
            )
            found = _shared(lab, offer, Verdict, lambda part: scorer.score(pairs[slice(*part)]), lambda _: None)
            scorer.memo.update(zip(missing, found, strict=True))
    return scorer.score(items)


def divided(count: int, size: int) -> tuple[tuple[int, int], ...]:
    """Divide `count` pieces into parts of `size`, the last one perhaps smaller."""
    return tuple((first, min(count, first + size)) for first in range(0, count, size))


class Helper:
    """A worker that takes parts of others' batches."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._follower: LocalPolicy | None = None

    def help(self, folder: Path) -> int:
        """Take parts of the offer in a folder, the last one first, until none is free; return how many.

        Raises SiaFlowError.
        """
        try:
            offer = Offer.model_validate_json((folder / OFFER).read_bytes())
        except FileNotFoundError:
            return 0
        if offer.isolation != self._lab.isolation:
            raise InfrastructureError(
                f"candidates would run here under {self._lab.isolation.words}, elsewhere under {offer.isolation.words}"
            )
        count = 0
        for number in reversed(range(len(offer.parts))):
            if self._lab.stop.asked:
                break
            taken = _take(folder, number, functools.partial(self._part, offer, folder, offer.parts[number]))
            count += taken is not None
        return count

    def _part(self, offer: Offer, folder: Path, part: tuple[int, int]) -> Sequence[Record]:
        lab = self._lab
        by_id = {instance.id: instance for instance in lab.instances(offer.split, offer.instances)}
        if offer.scaffold is None:
            return lab.scorer.score([(by_id[instance], answer) for instance, answer in offer.answers[slice(*part)]])
        work = [Work(by_id[name], sample, seed, start) for name, sample, seed, start in offer.work[slice(*part)]]
        engine, scaffold = lab.engine(offer.split), lab.store.objects.get_sources(offer.scaffold)
        return engine.run(scaffold, self._policy(offer, folder / ADAPTER), work)

    def _policy(self, offer: Offer, adapter: Path) -> Sampler:
        """Return the policy of an offer. Raises StoreError where its weights are not those that were offered."""
        if offer.version is None:
            return self._lab.policy(offer.adapter)
        if self._follower is None:
            self._follower = cast("LocalPolicy", load_sampler(self._lab, adapter))
        if self._follower.version != offer.version:
            self._follower.restore_adapter(adapter)
        if self._follower.version != offer.version:
            raise StoreError(f"the weights in {adapter} are {self._follower.version}, not {offer.version}")
        return self._follower


def _may_be_shared(lab: Lab, rolled: Rolled) -> bool:
    if rolled.alone or lab.spec.sandbox.network:
        return False
    return not rolled.training or lab.spec.policy.type == "local"


@contextlib.contextmanager
def _laid_out(lab: Lab, offer: Offer, trained: LocalPolicy | None) -> Iterator[Path]:
    """Lay an offer out in a folder of its own, with the weights that it names, for the block."""
    folder = offers_dir(lab.store, lab.experiment) / uuid.uuid4().hex
    try:
        if trained is not None:
            trained.save_adapter(folder / ADAPTER)
        write_atomic(folder / OFFER, canonical_json(offer.model_dump(mode="json")), sync=False)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _shared(
    lab: Lab,
    offer: Offer,
    kind: type[Found],
    here: Callable[[tuple[int, int]], Sequence[Found]],
    told: Callable[[int], None],
    trained: LocalPolicy | None = None,
) -> list[Found]:
    """Take the parts that nobody else does, the first one first; then wait for the others."""
    found: dict[int, Sequence[Found]] = {}
    with _laid_out(lab, offer, trained) as folder:
        with lab.hands.offered(folder):
            for wait in (False, True):
                for number, part in enumerate(offer.parts):
                    taken = _take(folder, number, functools.partial(here, part), wait=wait)
                    if taken is not None:
                        found[number] = taken
                        told(sum(map(len, found.values())))
        for number in set(range(len(offer.parts))) - found.keys():
            found[number] = load_lines(_path(folder, number).read_bytes(), kind)
    told(offer.parts[-1][1])
    return [one for number in range(len(offer.parts)) for one in found[number]]


class _ElsewhereError(Exception):
    """Another worker is at a part."""


def _elsewhere() -> None:
    raise _ElsewhereError


def _take(
    folder: Path, number: int, do: Callable[[], Sequence[Found]], *, wait: bool = False
) -> Sequence[Found] | None:
    """Do a part and write what it gave; None where another worker has done it, or is at it."""
    try:
        with claimed(folder, str(number), nothing if wait else _elsewhere, longest=LOOK):
            if _path(folder, number).exists() or not (folder / OFFER).exists():
                return None
            found = do()
            write_atomic(_path(folder, number), dump_lines(found), sync=False)
            return found
    except _ElsewhereError:
        return None


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number}.jsonl"
