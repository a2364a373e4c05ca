"""What people write for a run or a generation, found in the store.

`denoise`, `denoise/SIA-H`, `denoise/SIA-H/seed-0`, each with `@3`, `@best` or `@last` behind it; the path
`runs/denoise/SIA-H/seed-0/gen-3`; or the first digits of a generation's id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sia_flow.errors import SpecError
from sia_flow.lineage.heads import Head, heads
from sia_flow.lineage.records import Generation
from sia_flow.lineage.store import Store

_ID = re.compile(r"[0-9a-f]{6,64}")
_NAME = re.compile(
    r"(?:\./)?(?:runs/)?(?P<experiment>[^/@]+)(?:/(?P<arm>[^/@]+))?(?:/(?:seed-)?(?P<seed>\d+))?"
    r"(?:(?:/gen-|@)(?P<generation>\d+|best|last))?/?"
)
FORMS = "write EXPERIMENT/ARM/seed-N, with @3, @best or @last for a generation, or the first digits of its id"


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for."""

    head: Head | None
    """The run; none for a generation that no known run holds."""
    generation: Generation | None
    """The generation that was named; none where the name is of a run."""

    @property
    def label(self) -> str:
        """The whole name."""
        if self.generation is None:
            return self.head.name if self.head else ""
        return f"{self.head.name}@{self.generation.index}" if self.head else self.generation.id[:12]


def find_runs(store: Store, name: str) -> list[Head]:
    """Return every run that a name without generation covers. Raises SpecError where there is none."""
    match = _NAME.fullmatch(name)
    known = heads(store)
    found = [head for head in known if match and _covers(match, head)]
    if not found:
        raise SpecError(f"no run is called {name!r}{_known(known)}; {FORMS}")
    return found


def find(store: Store, name: str) -> Found:
    """Return the one run or generation that a name stands for. Raises SpecError where it is none or several."""
    if _ID.fullmatch(name):
        return _by_id(store, name)
    found = find_runs(store, name)
    if len(found) > 1:
        raise SpecError(f"{name!r} names {len(found)} runs ({_listed(found)}): name one of them")
    chosen = match.group("generation") if (match := _NAME.fullmatch(name)) else None
    return Found(found[0], _generation(store, found[0], chosen) if chosen else None)


def find_generation(store: Store, name: str) -> Found:
    """Return the generation that a name stands for: of a run its incumbent. Raises SpecError."""
    found = find(store, name)
    if found.generation is None and found.head is not None:
        return Found(found.head, _generation(store, found.head, "best"))
    return found


def incumbent(store: Store, head: Head) -> Generation:
    """Return the run's last accepted generation. Raises SpecError for a run without any."""
    for generation_id in reversed(head.generations):
        generation = store.generation(generation_id)
        if generation.accepted:
            return generation
    raise SpecError(f"{head.name} has no generation yet")


def _generation(store: Store, head: Head, chosen: str) -> Generation:
    if chosen == "best":
        return incumbent(store, head)
    count = len(head.generations)
    index = count - 1 if chosen == "last" else int(chosen)
    if not 0 <= index < count:
        raise SpecError(f"{head.name} has no generation {chosen}: it has {count}, numbered from 0")
    return store.generation(head.generations[index])


def _by_id(store: Store, prefix: str) -> Found:
    paths = sorted((store.root / "generations").glob(f"{prefix}*.json"))
    if len(paths) != 1:
        many = f"{len(paths)} generations have an id that starts with {prefix}: write more digits"
        raise SpecError(many if paths else f"no generation has an id that starts with {prefix}")
    holders = [head for head in heads(store) if paths[0].stem in head.generations]
    return Found(holders[0] if holders else None, store.generation(paths[0].stem))


def _covers(match: re.Match[str], head: Head) -> bool:
    wanted = (match.group("experiment"), match.group("arm"), match.group("seed"))
    held = (head.experiment, head.arm, str(head.seed))
    return all(want is None or want == have for want, have in zip(wanted, held, strict=True))


def _known(known: Sequence[Head]) -> str:
    return f"; there are {_listed(known)}" if known else "; nothing was applied in this project yet"


def _listed(found: Sequence[Head], limit: int = 6) -> str:
    names = [head.name for head in found[:limit]]
    return ", ".join(names) + (f" and {len(found) - limit} more" if len(found) > limit else "")
