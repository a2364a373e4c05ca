"""The evidence as text, fitted to a budget of tokens: what matters most first, examples for as long as there is room.

Invariants: figures and clusters are made of all rollouts; which examples are quoted depends on the records and the
budget alone; how much of the traces is quoted, and how much the quoted stand for, is counted and told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import Statistics
from sia_flow.agents.language.bench import ArmBench, Rollouts
from sia_flow.agents.language.clusters import Cluster, clusters_of, hardest
from sia_flow.agents.language.past import flipped
from sia_flow.agents.language.render import generation_line, rollout_text, texts_of
from sia_flow.agents.report import inline, quoted

BYTES_PER_TOKEN = 3
"""A cautious guess that needs no provider: English and code have more."""
PIECE = 1200
"""Characters of each piece of a quoted rollout."""
LATEST = 30


@dataclass(frozen=True, slots=True)
class Brief:
    """What a model is shown, and what it stands for."""

    text: str
    quoted: float
    """Share of the bytes of the incumbent's train traces that the text quotes."""
    covered: float
    """Share of those bytes that belong to clusters with a quoted example."""
    examples: int

    @property
    def tokens(self) -> int:
        """Its size, guessed."""
        return len(self.text.encode()) // BYTES_PER_TOKEN

    def features(self) -> dict[str, float]:
        """Return the figures that the record keeps."""
        tokens = float(self.tokens)
        return {"evidence_quoted": self.quoted, "evidence_covered": self.covered, "evidence_tokens": tokens}


def brief_of(evidence: Evidence, rewards: Statistics, bench: ArmBench, budget: int) -> Brief:
    """Return the evidence for a model, in at most `budget` tokens as guessed, the figures at least."""
    pairs = list(zip(evidence.trajectories, evidence.verdicts, strict=True))
    room = budget * BYTES_PER_TOKEN
    sections: list[str] = []
    for section in _sections(evidence, rewards, bench, pairs):
        size = len(section.encode()) + 2
        if size > room and len(sections) >= 2:
            continue
        sections.append(section)
        room -= size
    return _with_examples(sections, clusters_of(pairs), room)


def _with_examples(sections: list[str], clusters: Sequence[Cluster], room: int) -> Brief:
    """Add examples, one a cluster first and further ones in turn, while they fit."""
    quoted_bytes, examples, covered = 0, 0, 0
    total = sum(cluster.bytes for cluster in clusters) or 1
    texts: dict[str, list[str]] = {cluster.name: [] for cluster in clusters}
    for round_ in range(max((len(cluster.examples) for cluster in clusters), default=0)):
        for cluster in clusters:
            if round_ >= len(cluster.examples):
                continue
            trajectory, verdict = cluster.examples[round_]
            text = rollout_text(trajectory, verdict, PIECE)
            if len(text.encode()) + 2 > room:
                continue
            room -= len(text.encode()) + 2
            covered += 0 if texts[cluster.name] else cluster.bytes
            texts[cluster.name].append(text)
            quoted_bytes += min(sum(map(len, texts_of(trajectory, verdict))), len(text))
            examples += 1
    listed = [_cluster(cluster, texts[cluster.name]) for cluster in clusters]
    part, stands = quoted_bytes / total, covered / total
    share = f"{part:.1%} of the traces' bytes are quoted here; they stand for {stands:.1%} of them."
    tail = "Every trace is whole in list_rollouts, read_rollout and search_rollouts."
    text = "\n\n".join([*sections, "## Rollouts of the incumbent by kind", *listed, f"{share} {tail}"])
    return Brief(text, part, stands, examples)


def _cluster(cluster: Cluster, texts: Sequence[str]) -> str:
    head = f"### {cluster.name}: {cluster.count} rollouts, rewards {cluster.low:.4f} to {cluster.high:.4f}"
    return "\n\n".join([head, *texts])


def _sections(evidence: Evidence, rewards: Statistics, bench: ArmBench, pairs: Rollouts) -> Iterator[str]:
    """Yield the parts without examples, most needed first."""
    yield _situation(evidence)
    yield _figures(rewards)
    yield "\n".join(["## Generations", *(generation_line(g) for g in evidence.history[-LATEST:])])
    tried = list(_failed_before(evidence))
    if tried:
        yield "\n".join(["## Tried from this incumbent and refused", *tried])
    yield "\n".join(["## Scaffold of the incumbent", *_files(evidence)])
    yield "\n".join(["## Hardest instances", *hardest(pairs)])
    parent = next((g for g in evidence.history if g.id == evidence.incumbent.parent), None)
    if parent is not None:
        flips = flipped(bench.rollouts(parent.index), pairs)
        yield "\n".join([f"## Flipped since generation {parent.index}, its parent", *flips])
    if evidence.best_program:
        yield f"## Best answer on train so far\n\n{quoted(evidence.best_program, PIECE * 4)}"


def _situation(evidence: Evidence) -> str:
    levers = ", ".join(evidence.levers)
    lines = [
        "## Where the arm stands",
        f"Last made: generation {evidence.generation.index}. Incumbent, which you change: {evidence.incumbent.index}.",
        f"Levers that this arm may pull: {levers}.",
        f"Up to {evidence.trials} alternative edits are tried on train in one pull.",
    ]
    if "weights" in evidence.levers:
        lines.append(f"Training algorithms: {', '.join(evidence.menu)}; {evidence.iterations} iterations a pull.")
    if evidence.noise:
        lines.append(f"The verifier's own noise on a select mean: {evidence.noise:.4f}.")
    return "\n".join(lines)


def _figures(rewards: Statistics) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in rewards.features().items())
    bars = ", ".join(f"{edge:.4f}: {count}" for edge, count in rewards.histogram)
    return f"## Rewards of the incumbent on train\n{figures}\nhistogram (lower edge: count): {bars}"


def _failed_before(evidence: Evidence) -> Iterator[str]:
    for generation in evidence.history:
        decision = generation.decision
        if decision is None or generation.accepted or generation.parent != evidence.incumbent.id:
            continue
        names = ", ".join(inline(edit.name, 80) for edit in decision.edits) or decision.action
        why = f"gain {generation.gain:+.4f} +- {generation.gain_se:.4f}; {inline(generation.verdict, 200)}"
        yield f"- generation {generation.index}, {decision.action}: {names}: {why}"
        trials = sorted(generation.trials, key=lambda trial: -trial.mean)
        if trials:
            yield "  trials on train: " + ", ".join(f"{inline(t.name)} {t.mean:.4f}" for t in trials)


def _files(evidence: Evidence) -> Iterator[str]:
    for name, text in sorted(evidence.scaffold.items()):
        yield f"### {name}\n{quoted(text, len(text))}"
