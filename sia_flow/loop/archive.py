"""The archive of earlier solutions, and PUCT, which says what the next rollouts start from.

Invariant: the archive is a pure function of the expansions that it learnt, in their order; what is not a valid program
never enters; every parent is an entry, and the parents' chains end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sia_flow.canonical import Json
from sia_flow.loop.evaluate import as_pairs

Found = Sequence[tuple[str, float]]
"""Distinct valid programs with their rewards."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One earlier solution."""

    program: str
    reward: float
    """Its best one, for a program may be scored on several instances."""
    parent: str | None = None
    """The program that it was written from; None where it was written from nothing."""
    visits: int = 0
    """Expansions of it and of its descendants."""
    reached: float | None = None
    """The best reward that those expansions came to; None before the first."""

    @property
    def value(self) -> float:
        """Q: the best reward reached from it, its own while nothing started there."""
        return self.reward if self.reached is None else self.reached


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one group of rollouts came to."""

    start: str | None
    """The program that it started from; None for a group that started from nothing."""
    reached: float
    """The best reward in the group, the failure reward where nothing was valid."""
    found: Found

    def plain(self) -> dict[str, Json]:
        """Return it as JSON."""
        found: list[Json] = [{"program": program, "reward": reward} for program, reward in self.found]
        return {"start": self.start, "reached": self.reached, "found": found}

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Expansion:
        """Return what `plain` gave."""
        return cls(plain["start"], plain["reached"], as_pairs(plain["found"]))


class Archive:
    """At most `size` solutions, chosen from by PUCT with the constant `c`."""

    def __init__(self, size: int, c: float, first: Found = ()) -> None:
        self.size = size
        self.c = c
        self.expansions = 0
        self._entries: dict[str, Entry] = {}
        self.learn([Expansion(None, 0.0, first)])

    def ranked(self) -> list[Entry]:
        """Return the entries, the best reward first, ties by text."""
        return sorted(self._entries.values(), key=lambda entry: (-entry.reward, entry.program))

    def scores(self) -> dict[str, float]:
        """Return program -> Q + c P sqrt(1 + T) / (1 + n), best reward first.

        TTT-Discover (arXiv 2601.16175, section 3.2): T expansions in all, n visits, P falls linearly with the rank by
        reward and sums to one. `c` is in units of the reward.
        """
        ranked = self.ranked()
        total = len(ranked) * (len(ranked) + 1) / 2
        spread = self.c * math.sqrt(1 + self.expansions)
        return {
            entry.program: entry.value + spread * (len(ranked) - rank) / total / (1 + entry.visits)
            for rank, entry in enumerate(ranked)
        }

    def pick(self, count: int) -> list[str]:
        """Return the `count` programs of the highest scores, fewer where there are fewer; ties by text."""
        scores = self.scores()
        return sorted(scores, key=lambda program: (-scores[program], program))[:count]

    def learn(self, expansions: Iterable[Expansion]) -> None:
        """Take in the groups of one iteration: first their visits, then what they found, then drop what is too much."""
        groups = list(expansions)
        for group in groups:
            if group.start is not None:
                self._visit(group.start, group.reached)
        for group in groups:
            for program, reward in group.found:
                self._add(program, reward, group.start)
        self._trim()

    def _visit(self, start: str, reached: float) -> None:
        self.expansions += 1
        for entry in list(self._chain(start)):
            best = reached if entry.reached is None else max(reached, entry.reached)
            self._entries[entry.program] = replace(entry, visits=entry.visits + 1, reached=best)

    def _chain(self, program: str | None) -> Iterator[Entry]:
        """Yield an entry and its ancestors."""
        while program is not None:
            entry = self._entries[program]
            yield entry
            program = entry.parent

    def _add(self, program: str, reward: float, parent: str | None) -> None:
        known = self._entries.get(program)
        if known is None:
            self._entries[program] = Entry(program, reward, parent)
        elif reward > known.reward:
            self._entries[program] = replace(known, reward=reward)

    def _trim(self) -> None:
        """Drop the worst; the children of what is dropped become those of its nearest ancestor that stays."""
        ranked = self.ranked()
        if len(ranked) <= self.size:
            return
        kept = {entry.program: entry for entry in ranked[: self.size]}
        self._entries = {program: replace(entry, parent=self._heir(entry, kept)) for program, entry in kept.items()}

    def _heir(self, entry: Entry, kept: Mapping[str, Entry]) -> str | None:
        return next((ancestor.program for ancestor in self._chain(entry.parent) if ancestor.program in kept), None)
