"""The records: what happened, immutable, with a schema that another process can read.

Invariant: nothing here depends on when or how fast something ran. Two runs of the same spec and seed on the same
machine write the same bytes, whether or not one of them was killed in between; times live beside the records, in
the step's observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Lever = Literal["harness", "weights"]
Pull = Literal["harness", "weights", "both", "stop"]
Split = Literal["train", "select", "sealed"]
FORK = "fork of"
"""Among a generation's steps: names the generation that it was forked from, no step."""


class Record(BaseModel):
    """Base of every record: frozen, strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Spend(Record):
    """What something cost in units that do not depend on the machine's speed."""

    rollouts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    verifications: int = 0
    """Distinct (instance, program) pairs that each step asked to have scored; the memo may have run fewer."""
    updates: int = 0
    """Optimizer steps."""
    usd: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        """Return the sum, field by field."""
        return Spend(**{name: getattr(self, name) + getattr(other, name) for name in Spend.model_fields})


class Isolation(Record):
    """How untrusted code was held: 3 namespaces + seccomp + cgroup, 2 without cgroup, 1 Landlock, 0 rlimits only."""

    level: int
    backend: str
    features: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    # Left out where nothing is granted, so that records from before it was there keep their bytes.
    network: tuple[str, ...] = Field(default=(), exclude_if=lambda network: not network)
    """Addresses that scaffolds could read through the host."""

    @property
    def words(self) -> str:
        """The level and what scaffolds could read, for people."""
        reads = f", scaffolds could read {', '.join(self.network)}" if self.network else ""
        return f"level {self.level}, {self.backend}{reads}"


class Turn(Record):
    """One model call, token-exact: what was asked, what was sampled, with which probability."""

    messages: tuple[Mapping[str, Any], ...]
    text: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """Sampled tokens, the end-of-sequence token included where it was sampled."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each sampled token under the sampling distribution (at `temperature`)."""
    temperature: float
    finish: Literal["stop", "length"]
    policy: str
    """Version of the policy that sampled: base digest, or base + adapter digest."""
    # Left out where it does not apply, so that records from before it was there keep their bytes.
    rescored: bool = Field(default=False, exclude_if=lambda rescored: not rescored)
    """Whether a server told the text alone, so that tokens or log-probabilities are the trainer's own recomputation."""
    offered: tuple[Mapping[str, Any], ...] = Field(default=(), exclude_if=lambda offered: not offered)
    """Tools that the policy was offered."""
    calls: tuple[Mapping[str, str], ...] = Field(default=(), exclude_if=lambda calls: not calls)
    """Tools that the completion calls: `name` and `arguments`, a JSON text."""


class ToolCall(Record):
    """One call of a task's tool by the scaffold, or of a granted service (`fetch`), answered by the host."""

    name: str
    arguments: Mapping[str, Any]
    result: Any
    after_turn: int
    """How many turns came before it."""


class Trajectory(Record):
    """One rollout: scaffold and policy on one instance. Written by the host, so a scaffold cannot forge it."""

    instance: str
    sample: int
    seed: int
    turns: tuple[Turn, ...] = ()
    tools: tuple[ToolCall, ...] = ()
    answer: str | None = None
    status: str = "OK"
    """The sandbox's outcome of the scaffold: OK, NONZERO, TIMEOUT, MEMORY, BAD_RESULT, ..."""
    error: str = ""
    spend: Spend = Spend()


class Verdict(Record):
    """What the verifier says of one answer. An invalid answer carries the task's failure reward and a reason code."""

    reward: float
    valid: bool
    reason: str = "ok"
    """`ok`, or a code such as `no_answer`, `syntax`, `exception`, `timeout`, `bad_shape`, `non_finite`, `guard`."""
    metrics: Mapping[str, float] = Field(default_factory=dict)
    feedback: str = ""
    """What the agent may read of it: never an answer, never a private value."""


class Score(Record):
    """Summary of the verdicts of one scaffold and policy on one split."""

    split: Split
    n: int
    mean: float
    se: float
    """Standard error of the mean over rollouts."""
    best: float
    valid: float
    """Share of valid answers, 0 to 1."""
    metrics: Mapping[str, float] = Field(default_factory=dict)
    """Means over the valid answers."""
    rewards: Mapping[str, tuple[float, ...]] = Field(default_factory=dict)
    """Rewards by instance id, in sample order: what paired tests are made of."""
    reasons: Mapping[str, int] = Field(default_factory=dict)

    @property
    def error(self) -> float | None:
        """`se`, None where each instance was answered once: that tells nothing of how answers vary."""
        return self.se if self.se or any(len(answers) > 1 for answers in self.rewards.values()) else None


class Edit(Record):
    """A change of the scaffold, as whole files; the diff is computed from them."""

    kind: Literal["constants", "structure", "files"]
    name: str
    """Short name of the edit: `temperature 1.0 -> 0.8`, `best-of-n`, `retry`."""
    summary: str
    files: Mapping[str, str]
    """Path in the scaffold folder -> new text of the whole file."""


class WeightPlan(Record):
    """How the weights are to be updated."""

    algorithm: str
    iterations: int
    learning_rate: float
    kl: float
    """Coefficient of the KL penalty to the base."""
    reason: str = ""


class Draw(Record):
    """How an agent that decides by chance came to its action; the table decides without chance."""

    table: str
    """The action that the table would have taken."""
    chances: Mapping[str, float]
    """Action -> probability with which it could be chosen."""


class Decision(Record):
    """What the Feedback-Agent decided after a generation, with its forecast."""

    lever: Pull
    reason: str
    forecast: float
    """Expected gain of the select score."""
    report: str = ""
    """The improvement report, in Markdown."""
    edits: tuple[Edit, ...] = ()
    """Alternative edits of the scaffold; where there are several, the one that does best on train is taken."""
    weights: WeightPlan | None = None
    features: Mapping[str, float] = Field(default_factory=dict)
    """The figures that the decision rests on: reward density, skew, plateau test and so on."""
    draw: Draw | None = Field(default=None, exclude_if=lambda draw: draw is None)
    """Left out of the record where nothing was drawn, so that the table's decisions keep their digests."""

    @property
    def action(self) -> str:
        """What is pulled, finer than the lever: `harness-constants`, `weights-grpo`, `both`, `stop`."""
        if self.lever == "weights" and self.weights is not None:
            return f"weights-{self.weights.algorithm}"
        if self.lever == "harness" and self.edits:
            return f"harness-{self.edits[0].kind}"
        return self.lever


class Trial(Record):
    """One alternative edit that was tried on train before the generation was made."""

    name: str
    constants: Mapping[str, Any]
    mean: float
    se: float
    n: int
    chosen: bool = False


class Generation(Record):
    """A node of the lineage graph. Its id is the hash of what defines it; scores and spend follow from that."""

    kind: Literal["sia-flow/generation@1"] = "sia-flow/generation@1"
    id: str
    index: int
    """Position in its arm, from 0."""
    parent: str | None
    seed: int
    scaffold: str
    """Object id of the scaffold's folder."""
    base: str
    """Digest of the base model's folder."""
    adapter: str | None
    """Object id of the adapter's folder, none for the bare base."""
    data: str
    verifier: str
    decision: Decision | None
    """The decision that made it; none for generation 0."""
    train: Score
    select: Score
    guards: Mapping[str, float] = Field(default_factory=dict)
    """Guard metrics on select, as margins: negative means broken."""
    accepted: bool
    verdict: str
    """Why it was accepted or not, in words, with the paired gain and its standard error."""
    gain: float = 0.0
    gain_se: float = 0.0
    best_answer: str | None = None
    """Object id of the best program on train so far along its line, for discovery tasks."""
    trials: tuple[Trial, ...] = ()
    training: tuple[Mapping[str, float], ...] = ()
    """Metrics a training iteration, for a generation that a weight update made."""
    spend: Spend = Spend()
    """What this generation alone cost."""
    isolation: Isolation
    trajectories: str
    """Object id of the train trajectories with their verdicts, JSON lines."""
    steps: Mapping[str, str] = Field(default_factory=dict)
    """Step name -> key of the step record."""

    @property
    def origin(self) -> str:
        """How a generation that no decision made came about, in words."""
        start = self.steps.get(FORK)
        return f"forked from generation {start[:12]}" if start else "the Meta-Agent's first scaffold"
