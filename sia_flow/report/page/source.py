"""What a page is made from: the runs of one experiment, generation by generation.

Invariant: no generation's texts stay in memory; trajectories are read for one generation at a time, and of those only
the few that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sia_flow.lineage.heads import Head
from sia_flow.lineage.records import Generation, Trajectory, Verdict
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.report.published import Cited
from sia_flow.scaffold.diff import unified_diff


@dataclass(frozen=True, slots=True)
class Node:
    """A generation as the charts and the graph need it: figures, no texts."""

    id: str
    index: int
    parent: str | None
    arm: str
    seed: int
    action: str
    kept: bool
    train: float
    select: float
    se: float
    guard: float | None
    """The smallest guard margin on select."""
    forecast: float | None
    gain: float
    gain_se: float
    rollouts: int
    tokens: int
    truth: dict[str, float]
    """Means of the metrics that only a known truth gives."""

    @property
    def weights(self) -> bool:
        """Whether a weight update made it."""
        return self.action.startswith("weights") or self.action == "both"

    @property
    def label(self) -> str:
        """What it is called where it is pointed at."""
        kept = "kept" if self.kept else "not kept"
        return f"{self.arm} seed {self.seed} @{self.index}, {self.action}: select {self.select:.4f}, {kept}"


@dataclass(frozen=True, slots=True)
class Run:
    """One arm and seed."""

    head: Head
    number: int
    nodes: tuple[Node, ...]
    result: ArmResult | None

    @property
    def title(self) -> str:
        """Arm and seed."""
        return f"{self.head.arm} seed {self.head.seed}"

    def anchor(self, index: int) -> str:
        """Return the id of a generation's element on the page."""
        return f"r{self.number}-g{index}"


@dataclass(slots=True)
class Shown:
    """A trajectory that is shown, and why."""

    why: str
    trajectory: Trajectory
    verdict: Verdict


@dataclass(slots=True)
class Source:
    """The runs of one experiment in a store."""

    store: Store
    heads: Sequence[Head]
    cited: Cited | None = None
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runs = [self._run(number, head) for number, head in enumerate(self.heads)]

    @property
    def results(self) -> list[ArmResult]:
        """The results of the finished runs."""
        return [run.result for run in self.runs if run.result]

    def generations(self, run: Run) -> Iterator[Generation]:
        """Yield the generations of a run in order."""
        return (self.store.generation(generation_id) for generation_id in run.head.generations)

    def diff(self, generation: Generation) -> str:
        """Return the diff of a generation's scaffold against its parent's."""
        if generation.parent is None:
            return ""
        before = self.store.generation(generation.parent).scaffold
        if before == generation.scaffold:
            return ""
        return unified_diff(self.store.objects.get_sources(before), self.store.objects.get_sources(generation.scaffold))

    def trajectories(self, generation: Generation, count: int) -> list[Shown]:
        """Return the best, the worst valid and one failed trajectory of each reason, at most `count` of them."""
        verify = self.store.find(generation.steps.get("verify train", ""))
        if verify is None or count < 1:
            return []
        verdicts = [Verdict.model_validate_json(line) for line in self._lines(verify.outputs["verdicts"])]
        lines = self._lines(generation.trajectories)
        chosen = choose(verdicts)[:count]
        return [Shown(why, Trajectory.model_validate_json(lines[i]), verdicts[i]) for why, i in chosen]

    def _lines(self, oid: str) -> list[bytes]:
        return self.store.objects.get_bytes(oid).splitlines()

    def _run(self, number: int, head: Head) -> Run:
        nodes = tuple(_node(head, self.store.generation(generation_id)) for generation_id in head.generations)
        return Run(head, number, nodes, self.store.arm(head.result) if head.result else None)


def choose(verdicts: Sequence[Verdict]) -> list[tuple[str, int]]:
    """Return (why, position) of the trajectories that say most: the best, the worst valid, the failed by reason."""
    valid = sorted((i for i, v in enumerate(verdicts) if v.valid), key=lambda i: (-verdicts[i].reward, i))
    failed: dict[str, int] = {}
    for i, verdict in enumerate(verdicts):
        if not verdict.valid:
            failed.setdefault(verdict.reason, i)
    picked = [("best", valid[0])] if valid else []
    picked += [(f"failed: {reason}", i) for reason, i in sorted(failed.items())][:2]
    picked += [("worst that is valid", valid[-1])] if len(valid) > 1 else []
    return picked + [(f"failed: {reason}", i) for reason, i in sorted(failed.items())][2:]


def _node(head: Head, generation: Generation) -> Node:
    decision, spend = generation.decision, generation.spend
    return Node(
        id=generation.id,
        index=generation.index,
        parent=generation.parent,
        arm=head.arm,
        seed=head.seed,
        action=decision.action if decision else "first",
        kept=generation.accepted,
        train=generation.train.mean,
        select=generation.select.mean,
        se=generation.select.se,
        guard=min(generation.guards.values(), default=None),
        forecast=decision.forecast if decision else None,
        gain=generation.gain,
        gain_se=generation.gain_se,
        rollouts=spend.rollouts,
        tokens=spend.prompt_tokens + spend.completion_tokens,
        truth={name: value for name, value in generation.select.metrics.items() if name.startswith("truth_")},
    )
