"""The state of one arm and seed while its generations grow: history, incumbent, spend.

Invariant: everything here is computed from records, so that replaying the records rebuilds the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sia_flow.canonical import digest
from sia_flow.lineage.goodhart import gap_of
from sia_flow.lineage.records import Decision, Generation, Score, Spend, Trial
from sia_flow.lineage.store import StepRecord
from sia_flow.loop.evaluate import Agent, Evaluation, Sample
from sia_flow.loop.lab import Lab
from sia_flow.spec.models import Arm
from sia_flow.verify.gate import accept, paired_gain


@dataclass(frozen=True, slots=True)
class Made:
    """How a generation's agent came to be."""

    agent: Agent
    decision: Decision | None
    spend: Spend
    steps: Mapping[str, str]
    trials: tuple[Trial, ...] = ()
    training: tuple[Mapping[str, float], ...] = ()
    programs: str | None = None
    """Object id of the best programs that a weight update saw."""


def with_talk(made: Made, feedback: StepRecord) -> Made:
    """Return what was made with the step of its decision, where that kept a model's talk; others name it nowhere."""
    talk = {"feedback": feedback.key} if "transcript" in feedback.outputs else {}
    return replace(made, steps={**made.steps, **talk})


@dataclass(slots=True)
class ArmState:
    """One arm and seed, growing."""

    arm: Arm
    seed: int
    history: list[Generation] = field(default_factory=list)
    incumbent: Generation | None = None
    spend: Spend = field(default_factory=Spend)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    """Train evaluation by generation id."""
    waited: float = 0.0
    """Seconds for which people were waited for; they count against no budget."""
    programs: list[str] = field(default_factory=list)
    """Object ids of program lists found by weight updates."""

    def parent(self, lab: Lab) -> Generation:
        """Return the generation that the next one branches from."""
        assert self.incumbent is not None
        return self.history[-1] if lab.spec.search.parent == "chain" else self.incumbent

    def add(self, generation: Generation, evaluation: Evaluation, programs: str | None) -> None:
        """Take a finished generation into the state."""
        self.history.append(generation)
        self.evaluations[generation.id] = evaluation
        self.spend += generation.spend
        if programs is not None:
            self.programs.append(programs)
        if generation.accepted:
            self.incumbent = generation

    def label(self, index: int, what: str = "") -> str:
        """Return the name that people read for a step of a generation."""
        return f"{self.arm.name} seed {self.seed} gen {index} {what}".rstrip()


def train_sample(lab: Lab) -> Sample:
    """Return the sample of train that each generation is rolled out on."""
    return Sample("train", lab.spec.rollouts.instances, lab.spec.rollouts.samples)


def select_sample(lab: Lab) -> Sample:
    """Return the sample of select that decides what is kept."""
    return Sample("select", lab.spec.verify.select.instances, lab.spec.verify.select.samples)


def sealed_sample(lab: Lab) -> Sample:
    """Return the sample of sealed that is read once."""
    return Sample("sealed", lab.spec.verify.sealed.instances, lab.spec.verify.sealed.samples)


@dataclass(frozen=True, slots=True)
class Match:
    """What the gate judges: one score a side, and what they cost beyond the first draws."""

    new: Score
    old: Score
    spend: Spend
    steps: Mapping[str, str]
    """Step name -> key, of further draws."""


def make_generation(
    lab: Lab, state: ArmState, made: Made, train: Evaluation, select: Evaluation, match: Match | None
) -> Generation:
    """Judge an evaluated agent against the incumbent (no match: there is none) and write its record."""
    parent = state.parent(lab) if state.incumbent else None
    guards = lab.verifier.guards(select.score.metrics)
    accepted, verdict, gain, gain_se = _judge(lab, state, match, guards)
    steps = {**made.steps, **_step_keys(train, select), **(match.steps if match else {})}
    generation = Generation(
        id=_identity(lab, state, made, parent, steps),
        index=len(state.history),
        parent=parent.id if parent else None,
        seed=state.seed,
        scaffold=made.agent.scaffold,
        base=lab.inputs["base"],
        adapter=made.agent.adapter,
        data=lab.inputs["data"],
        verifier=lab.inputs["verifier"],
        decision=made.decision,
        train=train.score,
        select=select.score,
        guards=guards,
        accepted=accepted,
        verdict=verdict,
        gain=gain,
        gain_se=gain_se,
        trials=made.trials,
        training=made.training,
        spend=made.spend + train.spend + select.spend + (match.spend if match else Spend()),
        isolation=train.rollout.isolation or lab.isolation,
        trajectories=train.rollout.outputs["trajectories"],
        steps=steps,
    )
    if lab.store.put_generation(generation):
        for alarm in gap_of(state.history[0] if state.history else generation, generation).alarms:
            lab.watcher.warning(f"{state.label(generation.index)}: {alarm}")
    return generation


def _identity(lab: Lab, state: ArmState, made: Made, parent: Generation | None, steps: Mapping[str, str]) -> str:
    return digest(
        {
            "index": len(state.history),
            "parent": parent.id if parent else None,
            "incumbent": state.incumbent.id if state.incumbent else None,
            "seed": state.seed,
            "scaffold": made.agent.scaffold,
            "adapter": made.agent.adapter,
            "inputs": lab.inputs,
            "decision": made.decision.model_dump(mode="json") if made.decision else None,
            "accept": lab.spec.accept.model_dump(mode="json"),
            "steps": steps,
        }
    )


def _judge(
    lab: Lab, state: ArmState, match: Match | None, guards: Mapping[str, float]
) -> tuple[bool, str, float, float]:
    if match is None:
        return True, "first generation", 0.0, 0.0
    gain, gain_se = paired_gain(match.new, match.old)
    if state.arm.control == "unaided":
        return True, f"its answer stands: gain {gain:+.4f} +- {gain_se:.4f}", gain, gain_se
    if lab.spec.accept.gate == "always":
        return True, f"gate off: gain {gain:+.4f} +- {gain_se:.4f}", gain, gain_se
    blocking = guards if lab.verifier.guards_block else {}
    accepted, words = accept(match.new, match.old, blocking, lab.spec.accept.k)
    return accepted, words, gain, gain_se


def _step_keys(train: Evaluation, select: Evaluation) -> dict[str, str]:
    pairs: list[tuple[str, StepRecord]] = [
        ("rollout train", train.rollout),
        ("verify train", train.verify),
        ("rollout select", select.rollout),
        ("verify select", select.verify),
    ]
    return {name: record.key for name, record in pairs}
