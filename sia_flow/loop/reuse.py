"""State reuse in a weight update: which groups of an iteration start from earlier programs, and from which.

Invariants: what an iteration starts from depends on the notes of earlier iterations alone, so that a resumed pull
chooses what an uninterrupted one does; evaluations never start from a program; the scaffold of a generation stays as
it is, for only the rollouts of the pull see the edit that shows a start.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sia_flow.agents.catalogue import START_STATES, Context
from sia_flow.lineage.records import Trajectory, Verdict
from sia_flow.loop.archive import Archive, Expansion, Found
from sia_flow.loop.arm import ArmState
from sia_flow.loop.decide import ranked_train_programs
from sia_flow.loop.evaluate import as_pairs, top_programs
from sia_flow.loop.lab import Lab
from sia_flow.rollout.host import START
from sia_flow.scaffold.contract import MAIN
from sia_flow.spec.models import Reuse

KEPT_OF_GROUP = 64


class Starts:
    """The start states of a pull's iterations; `note` gives what an earlier iteration wrote down."""

    def __init__(self, settings: Reuse, first: Found, note: Callable[[int], Mapping[str, Any]]) -> None:
        self.settings = settings
        self.first = first
        self.note = note
        self._archive, self._learnt = self._fresh(), 0

    def archive(self, iteration: int) -> Archive:
        """Return the archive as the iteration finds it."""
        if iteration < self._learnt:
            self._archive, self._learnt = self._fresh(), 0
        for earlier in range(self._learnt, iteration):
            self._archive.learn(Expansion.parse(group) for group in self.note(earlier)["groups"])
        self._learnt = iteration
        return self._archive

    def plan(self, iteration: int, instances: Sequence[str]) -> dict[str, str]:
        """Return instance -> program for the groups that start from one.

        They take turns through the instances, so that over the iterations their part is the share that the spec asks
        for, on every instance.
        """
        before, after = (math.floor(self.settings.share * len(instances) * i) for i in (iteration, iteration + 1))
        turns = [instances[turn % len(instances)] for turn in range(before, after)]
        return dict(zip(turns, self.archive(iteration).pick(len(turns)), strict=False))

    def _fresh(self) -> Archive:
        return Archive(self.settings.size, self.settings.c, self.first)


def expansions(
    starts: Mapping[str, str], trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]
) -> list[Expansion]:
    """Return what each instance's group came to, in the order in which the instances appear."""
    groups: dict[str, list[tuple[Trajectory, Verdict]]] = {}
    for pair in zip(trajectories, verdicts, strict=True):
        groups.setdefault(pair[0].instance, []).append(pair)
    return [_expansion(starts.get(instance), pairs) for instance, pairs in groups.items()]


def _expansion(start: str | None, pairs: Sequence[tuple[Trajectory, Verdict]]) -> Expansion:
    trajectories, verdicts = zip(*pairs, strict=True)
    found = as_pairs(top_programs(trajectories, verdicts, KEPT_OF_GROUP))
    return Expansion(start, max(verdict.reward for verdict in verdicts), found)


def showing_starts(files: Mapping[str, str]) -> Mapping[str, str] | None:
    """Return a scaffold that shows the policy what it starts from; None where this one cannot be made to."""
    if any(_reads_start(text) for name, text in files.items() if name.endswith(".py")):
        return files
    context = Context(None)
    if not START_STATES.applies(files[MAIN], context):
        return None
    return {**files, MAIN: START_STATES.apply(files[MAIN], context)}


def _reads_start(source: str) -> bool:
    return any(isinstance(node, ast.Constant) and node.value == START for node in ast.walk(ast.parse(source)))


def earlier_programs(lab: Lab, state: ArmState) -> list[tuple[str, float]]:
    """Return the arm's best programs on train with their rewards: what a pull's archive begins with."""
    if lab.spec.reuse.type == "none":
        return []
    return ranked_train_programs(lab, state, lab.spec.reuse.size)
