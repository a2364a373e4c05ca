"""The Feedback-Agent's step, and the harness lever: its alternative edits are tried on train, the best one is taken.

Invariant: the agent sees train trajectories and select scores, never a sealed figure; what it sees does not depend
on how many generations the budget still has, so that a longer budget extends an arm instead of changing it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sia_flow.agents.blind import BlindFeedbackAgent
from sia_flow.agents.builtin import feedback_agent
from sia_flow.agents.decision import Evidence, Rewards, Validity
from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Decision, Generation, Spend, Trial
from sia_flow.lineage.store import Step, StepOutput, StepRecord
from sia_flow.loop.arm import ArmState, Made
from sia_flow.loop.evaluate import Agent, Sample, as_pairs, evaluate, rank_programs, top_programs
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared, Runner
from sia_flow.scaffold.constants import constant_values
from sia_flow.scaffold.contract import check
from sia_flow.spec.models import Training


def prepare_feedback(lab: Lab, state: ArmState) -> Prepared:
    """Prepare the decision after the state's last generation."""
    spec = lab.spec
    step = Step(
        name="feedback",
        version=1,
        params={
            "agent": spec.agents.feedback.model_dump(mode="json"),
            "levers": list(state.arm.levers),
            "control": state.arm.control,
            "training": spec.training.model_dump(mode="json"),
            "search": spec.search.model_dump(mode="json"),
        },
        inputs={f"generation {g.index}": g.id for g in state.history},
        seed=state.seed,
    )
    return Prepared("feedback", state.label(len(state.history)), step, lambda: _feedback(lab, state))


def decision_of(record: StepRecord) -> Decision:
    """Return the decision that a feedback step holds."""
    return Decision.model_validate(record.result)


def _feedback(lab: Lab, state: ArmState) -> StepOutput:
    parent = state.parent(lab)
    evaluation = state.evaluations[parent.id]
    trajectories, verdicts = evaluation.trajectories(lab), evaluation.verdicts(lab)
    training = lab.spec.training
    best = best_train_program(lab, state)
    evidence = Evidence(
        levers=tuple(state.arm.levers),
        generation=shown(state.history[-1]),
        incumbent=shown(parent),
        history=tuple(shown(generation) for generation in state.history),
        scaffold=lab.store.objects.get_sources(parent.scaffold),
        trajectories=trajectories,
        verdicts=[v.model_copy(update={"metrics": _public(v.metrics)}) for v in verdicts],
        best_program=best,
        menu=menu(training.algorithm),
        iterations=training.iterations,
        rates=lambda algorithm: rates(training, algorithm),
        trials=lab.spec.search.trials,
        seed=derive_seed(state.seed, "feedback", len(state.history)),
        choose=lambda rewards, valid, names: _choose(lab, rewards, valid, names),
    )
    blind = state.arm.control == "no-feedback"
    agent = BlindFeedbackAgent() if blind else feedback_agent(lab.spec.agents.feedback.type)
    decision = agent.decide(evidence)
    return StepOutput(result=decision.model_dump(mode="json"))


def shown(generation: Generation) -> Generation:
    """Return a generation as agents may see it: without the figures that only a known truth gives."""
    scores = {split: getattr(generation, split) for split in ("train", "select")}
    public = {s: score.model_copy(update={"metrics": _public(score.metrics)}) for s, score in scores.items()}
    return generation.model_copy(update=public)


def _public(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("truth_")}


def _choose(lab: Lab, rewards: Rewards, valid: Validity, names: Sequence[str]) -> tuple[str, str]:
    from sia_flow.training.select import choose, features

    return choose(features(rewards, valid, floor=lab.verifier.floor), names)


def rates(training: Training, algorithm: str) -> tuple[float, float]:
    """Return the learning rate and the KL coefficient of an algorithm: the spec's, or the algorithm's own."""
    from sia_flow.training.algorithms import algorithm_named

    own = algorithm_named(algorithm)
    learning_rate = own.learning_rate if training.learning_rate is None else training.learning_rate
    return learning_rate, own.kl if training.kl is None else training.kl


def menu(algorithm: str) -> tuple[str, ...]:
    """Return the algorithms that the agent may choose from: one that the spec pins, or all."""
    from sia_flow.training.algorithms import ALGORITHMS

    return tuple(ALGORITHMS) if algorithm == "auto" else (algorithm,)


def best_train_program(lab: Lab, state: ArmState) -> str | None:
    """Return the best program that the arm has seen on train, or None while there is no valid one."""
    ranked = best_train_programs(lab, state, 1)
    return ranked[0] if ranked else None


def best_train_programs(lab: Lab, state: ArmState, count: int) -> list[str]:
    """Return the arm's best distinct programs by their best train reward, best first."""
    found: list[tuple[str, float]] = []
    for evaluation in state.evaluations.values():
        found += as_pairs(top_programs(evaluation.trajectories(lab), evaluation.verdicts(lab), count))
    for oid in state.programs:
        found += as_pairs(json.loads(lab.store.objects.get_bytes(oid)))
    return [str(entry["program"]) for entry in rank_programs(found, count)]


def edit_scaffold(lab: Lab, run: Runner, state: ArmState, decision: Decision, spend: Spend) -> Made:
    """Apply a harness decision: check each alternative, try them on train where there are several, take the best."""
    parent = state.parent(lab)
    index = len(state.history)
    agents = _agents(lab, parent, decision)
    sample = trial_sample(lab)
    trials: list[Trial] = []
    for number, agent in enumerate(agents):
        if len(agents) > 1:
            label = state.label(index, f"trial {number + 1} of {len(agents)}")
            evaluation = evaluate(lab, run, agent, sample, state.seed, label)
            spend += evaluation.spend
            trials.append(_trial(lab, agent, decision, number, evaluation.score.mean, evaluation.score.se, sample))
    chosen = max(range(len(trials)), key=lambda i: trials[i].mean) if trials else 0
    trials = [t.model_copy(update={"chosen": i == chosen}) for i, t in enumerate(trials)]
    steps = {"scaffold edit": agents[chosen].scaffold}
    return Made(agents[chosen], decision, spend, steps, tuple(trials))


def trial_sample(lab: Lab) -> Sample:
    """Return the sample of train that each alternative edit is tried on."""
    samples = max(2, lab.spec.rollouts.samples // 2)
    return Sample("train", lab.spec.rollouts.instances, samples, "trial")


def _agents(lab: Lab, parent: Generation, decision: Decision) -> Sequence[Agent]:
    agents = []
    for edit in decision.edits:
        files = {**lab.store.objects.get_sources(parent.scaffold), **edit.files}
        if not check(files):
            oid = lab.store.objects.put_tree({name: text.encode() for name, text in files.items()})
            agents.append(Agent(oid, parent.adapter))
    return agents or [Agent(parent.scaffold, parent.adapter)]


def _trial(lab: Lab, agent: Agent, decision: Decision, number: int, mean: float, se: float, sample: Sample) -> Trial:
    source = lab.store.objects.get_sources(agent.scaffold)["scaffold.py"]
    constants = constant_values(source)
    name = decision.edits[number].name if number < len(decision.edits) else "unchanged"
    return Trial(name=name, constants=constants, mean=mean, se=se, n=sample.instances * sample.samples)
