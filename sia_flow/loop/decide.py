"""The Feedback-Agent's step, and the harness lever: its alternative edits are tried on train, the best one is taken.

Invariant: the agent sees train trajectories and select scores, never a sealed figure; what it sees does not depend
on how many generations the budget still has, so that a longer budget extends an arm instead of changing it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from sia_flow.agents.blind import BlindFeedbackAgent
from sia_flow.agents.builtin import feedback_agent
from sia_flow.agents.decision import Evidence, Rewards, Validity
from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Decision, Generation, Score, Spend, Trajectory, Trial
from sia_flow.lineage.store import Step, StepOutput, StepRecord
from sia_flow.loop.arm import ArmState
from sia_flow.loop.books import admit_models
from sia_flow.loop.evaluate import Agent, Sample, as_pairs, evaluate, rank_programs, top_programs
from sia_flow.loop.interleave import interleaved
from sia_flow.loop.lab import Lab
from sia_flow.loop.language import language_feedback, speaks
from sia_flow.loop.ledger import pinned_ledger, rows_of
from sia_flow.loop.prepared import Prepared, Runner, run_local
from sia_flow.loop.shown import shown, shown_verdict
from sia_flow.scaffold.constants import constant_values
from sia_flow.scaffold.contract import check
from sia_flow.spec.models import Training


def prepare_feedback(lab: Lab, run: Runner, state: ArmState) -> Prepared:
    """Prepare the decision after the state's last generation; `run` pins the ledger for an agent that reads one."""
    spec = lab.spec
    admit_models(lab.experiment)
    ledger = pinned_ledger(lab, run)
    step = Step(
        name="feedback",
        version=3 if spec.agents.feedback.type == "learned" else 2,
        params={
            "agent": spec.agents.feedback.model_dump(mode="json"),
            "levers": list(state.arm.levers),
            "control": state.arm.control,
            "training": spec.training.model_dump(mode="json"),
            "search": spec.search.model_dump(mode="json"),
        },
        inputs={**{f"generation {g.index}": g.id for g in state.history}, **({"ledger": ledger} if ledger else {})},
        seed=state.seed,
    )
    return Prepared("feedback", state.label(len(state.history)), step, lambda: _feedback(lab, state, ledger))


def decision_of(record: StepRecord) -> Decision:
    """Return the decision that a feedback step holds."""
    return Decision.model_validate(record.result)


def _feedback(lab: Lab, state: ArmState, ledger: str | None) -> StepOutput:
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
        verdicts=[shown_verdict(v) for v in verdicts],
        best_program=best,
        menu=menu(training),
        iterations=training.iterations,
        rates=lambda algorithm: rates(training, algorithm),
        trials=lab.spec.search.trials,
        seed=derive_seed(state.seed, "feedback", len(state.history)),
        choose=lambda rewards, valid, names: _choose(lab, trajectories, rewards, valid, names),
    )
    output = _decided(lab, state, evidence, ledger)
    decision = interleaved(lab.spec.search.interleave, evidence, Decision.model_validate(output.result))
    return replace(output, result=decision.model_dump(mode="json"))


def _decided(lab: Lab, state: ArmState, evidence: Evidence, ledger: str | None) -> StepOutput:
    blind = state.arm.control == "no-feedback"
    if speaks(lab, "feedback") and not blind:
        return language_feedback(lab, state, evidence, rows_of(lab, ledger))
    named = lab.spec.agents.feedback
    rows = rows_of(lab, ledger)
    agent = BlindFeedbackAgent() if blind else feedback_agent(named.type, rows, named.rows, lab.task.edits())
    decision = agent.decide(evidence)
    return StepOutput(result=decision.model_dump(mode="json"))


def _choose(
    lab: Lab, trajectories: Sequence[Trajectory], rewards: Rewards, valid: Validity, names: Sequence[str]
) -> tuple[str, str]:
    from sia_flow.training.select import choose, features

    # Completions that were asked for at once share their prompt and make an episode wider, not longer.
    calls = fmean(len({turn.prompt_ids for turn in t.turns}) for t in trajectories)
    tokens = fmean(t.spend.completion_tokens for t in trajectories)
    found = features(rewards, valid, floor=lab.verifier.floor, calls=calls, tokens=tokens)
    return choose(found, names)


def rates(training: Training, algorithm: str) -> tuple[float, float]:
    """Return the learning rate and the KL coefficient of an algorithm: the spec's, or the algorithm's own."""
    from sia_flow.training.algorithms import algorithm_named

    own = algorithm_named(algorithm)
    learning_rate = own.learning_rate if training.learning_rate is None else training.learning_rate
    return learning_rate, own.kl if training.kl is None else training.kl


def menu(training: Training) -> tuple[str, ...]:
    """Return the algorithms that the agent may choose from: those that the spec names, or all that its engine has."""
    from sia_flow.training.algorithms import ALGORITHMS

    if training.menu:
        return tuple(training.menu)
    if training.algorithm != "auto":
        return (training.algorithm,)
    return tuple(name for name, entry in ALGORITHMS.items() if training.engine == "peft" or entry.critic is None)


def best_train_program(lab: Lab, state: ArmState) -> str | None:
    """Return the best program that the arm has seen on train, or None while there is no valid one."""
    ranked = best_train_programs(lab, state, 1)
    return ranked[0] if ranked else None


def best_train_programs(lab: Lab, state: ArmState, count: int) -> list[str]:
    """Return the arm's best distinct programs by their best train reward, best first."""
    return [program for program, _ in ranked_train_programs(lab, state, count)]


def ranked_train_programs(lab: Lab, state: ArmState, count: int) -> list[tuple[str, float]]:
    """Return the arm's best distinct programs with their best train reward, best first; none where answers are texts.

    A text answers one instance; a program is worth something on another one too.
    """
    if lab.task.manifest.answer.type == "text":
        return []
    found: list[tuple[str, float]] = []
    for evaluation in state.evaluations.values():
        found += as_pairs(top_programs(evaluation.trajectories(lab), evaluation.verdicts(lab), count))
    for oid in state.programs:
        found += as_pairs(json.loads(lab.store.objects.get_bytes(oid)))
    return as_pairs(rank_programs(found, count))


def prepare_edit(lab: Lab, state: ArmState, decision: Decision) -> Prepared:
    """Prepare a harness pull: each alternative edit is checked and, where there are several, tried on train.

    The trials are steps with records of their own inside this one, so that a run that is killed between two goes on
    with the second.
    """
    parent, label = state.parent(lab), state.label(len(state.history), "edit")
    candidates = _candidates(lab, parent, decision)
    sample = trial_sample(lab)
    step = Step(
        name="scaffold edit",
        version=1,
        params={
            "names": list(candidates),
            "instances": sample.instances,
            "samples": sample.samples,
            "limits": lab.limits_digest,
        },
        inputs={**lab.inputs, "adapter": parent.adapter, **{f"edit {i}": o for i, o in enumerate(candidates.values())}},
        seed=state.seed,
    )
    return Prepared("scaffold synth", label, step, lambda: _edit(lab, state, parent.adapter, candidates, label))


def edited(record: StepRecord) -> tuple[str, tuple[Trial, ...]]:
    """Return the scaffold that a harness pull chose, and its trials."""
    return record.outputs["scaffold"], tuple(Trial.model_validate(trial) for trial in record.result)


def _edit(lab: Lab, state: ArmState, adapter: str | None, candidates: Mapping[str, str], label: str) -> StepOutput:
    scaffolds = list(candidates.values())
    if len(scaffolds) == 1:
        return StepOutput({"scaffold": scaffolds[0]}, result=[])
    spend, means, trials = Spend(), list[float](), list[Trial]()
    for number, (name, scaffold) in enumerate(candidates.items()):
        words = f"{label} {number + 1} of {len(scaffolds)}"
        found = evaluate(lab, run_local, Agent(scaffold, adapter), trial_sample(lab), state.seed, words)
        spend += found.spend
        means.append(found.score.mean)
        trials.append(_trial(lab, name, scaffold, found.score))
    chosen = max(range(len(means)), key=means.__getitem__)
    result = [t.model_copy(update={"chosen": i == chosen}).model_dump(mode="json") for i, t in enumerate(trials)]
    return StepOutput({"scaffold": scaffolds[chosen]}, result, spend, lab.isolation)


def trial_sample(lab: Lab) -> Sample:
    """Return the sample of train that each alternative edit is tried on."""
    samples = max(2, lab.spec.rollouts.samples // 2)
    return Sample("train", lab.spec.rollouts.instances, samples, "trial")


def _candidates(lab: Lab, parent: Generation, decision: Decision) -> Mapping[str, str]:
    """Return edit name -> scaffold for the edits that honour the contract; the parent's where none does."""
    found = {}
    for edit in decision.edits:
        files = {**lab.store.objects.get_sources(parent.scaffold), **edit.files}
        if not check(files):
            found[edit.name] = lab.store.objects.put_tree({name: text.encode() for name, text in files.items()})
    return found or {"unchanged": parent.scaffold}


def _trial(lab: Lab, name: str, scaffold: str, score: Score) -> Trial:
    source = lab.store.objects.get_sources(scaffold)["scaffold.py"]
    return Trial(name=name, constants=constant_values(source), mean=score.mean, se=score.se, n=score.n)
