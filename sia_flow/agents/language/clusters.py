"""Rollouts by kind: failures by reason and by the signature of their message, successes by third of the rewards.

Invariant: every rollout is in exactly one cluster; the order depends on the rollouts alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sia_flow.agents.evidence import quantile
from sia_flow.agents.language.bench import Rollouts
from sia_flow.agents.language.render import texts_of
from sia_flow.agents.report import inline
from sia_flow.lineage.records import Trajectory, Verdict

EXAMPLES = 3
VARIES = re.compile(r"0x[0-9a-f]+|'[^']*'|\"[^\"]*\"|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Rollouts of one kind."""

    name: str
    count: int
    low: float
    high: float
    bytes: int
    """Of all their traces."""
    examples: tuple[tuple[Trajectory, Verdict], ...]
    """The first from each end of the rewards, and the middle one."""


def clusters_of(pairs: Rollouts) -> list[Cluster]:
    """Return the clusters: the best third of the valid rollouts, then failures by frequency, then the rest."""
    valid = sorted((p for p in pairs if p[1].valid), key=lambda p: -p[1].reward)
    cuts = [quantile([v.reward for _, v in valid], share) for share in (2 / 3, 1 / 3)]
    thirds: dict[str, list[tuple[Trajectory, Verdict]]] = {"best": [], "middle": [], "lowest": []}
    for pair in valid:
        third = "best" if pair[1].reward >= cuts[0] else "middle" if pair[1].reward >= cuts[1] else "lowest"
        thirds[third].append(pair)
    failed: dict[str, list[tuple[Trajectory, Verdict]]] = {}
    for pair in pairs:
        if not pair[1].valid:
            failed.setdefault(signature(pair[1]), []).append(pair)
    ranked = sorted(failed.items(), key=lambda item: (-len(item[1]), item[0]))
    names = {f"valid, {third} third": members for third, members in thirds.items() if members}
    first = dict(list(names.items())[:1])
    whole = {**first, **{f"failed: {name}": members for name, members in ranked}, **names}
    return [_cluster(name, members) for name, members in whole.items()]


def signature(verdict: Verdict) -> str:
    """Return a failure's reason and message without what varies: numbers, quoted words, addresses."""
    said = VARIES.sub("_", verdict.feedback)
    return f"{inline(verdict.reason)}: {inline(said, 100)}" if said else inline(verdict.reason)


def hardest(pairs: Rollouts, count: int = 5) -> list[str]:
    """Return a line for each of the instances with the lowest mean reward."""
    groups: dict[str, list[Verdict]] = {}
    for trajectory, verdict in pairs:
        groups.setdefault(trajectory.instance, []).append(verdict)
    means = {name: sum(v.reward for v in found) / len(found) for name, found in groups.items()}
    return [
        f"instance {name}: mean {means[name]:.4f}, {sum(v.valid for v in groups[name])} of {len(groups[name])} valid"
        for name in sorted(means, key=lambda name: (means[name], name))[:count]
    ]


def _cluster(name: str, members: Sequence[tuple[Trajectory, Verdict]]) -> Cluster:
    rewards = [verdict.reward for _, verdict in members]
    places = dict.fromkeys((0, len(members) - 1, len(members) // 2))
    return Cluster(
        name=name,
        count=len(members),
        low=min(rewards),
        high=max(rewards),
        bytes=sum(len(text) for pair in members for text in texts_of(*pair)),
        examples=tuple(members[place] for place in places)[:EXAMPLES],
    )
