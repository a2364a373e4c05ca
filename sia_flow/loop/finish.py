"""The end of an arm: the sealed split once for the incumbent, the best program, the 2x2 of the levers.

Invariant: nothing here feeds back into the search; the sealed split is asked for by this module alone, inside a reading
that is on record, and a sealed step is keyed by what it reads, so that it is computed once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from sia_flow.canonical import digest
from sia_flow.lineage.records import Score, Spend, Split
from sia_flow.lineage.results import ArmResult, BestProgram, Cell
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.arm import ArmState, sealed_sample, select_sample
from sia_flow.loop.decide import best_train_programs
from sia_flow.loop.evaluate import Agent, evaluate, instance_ids
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared, Runner
from sia_flow.loop.sealed import number_of_reading, sealed_reading
from sia_flow.verify.gate import summarize

FINALISTS = 10


def finish_arm(lab: Lab, run: Runner, state: ArmState, stopped: str, key: str) -> ArmResult:
    """Measure what the arm came to and store its result."""
    return close_arm(lab, run, state, Ending(key, stopped, best_train_programs(lab, state, FINALISTS), state.spend))


@dataclass(frozen=True, slots=True)
class Ending:
    """How an arm ended."""

    key: str
    """Of its result."""
    stopped: str
    """Why, in words."""
    finalists: Sequence[str]
    """Its best programs on train, best first."""
    spend: Spend


def close_arm(lab: Lab, run: Runner, state: ArmState, ending: Ending) -> ArmResult:
    """Measure the incumbent and the best program, show the end of the arm, then record it.

    In this order: where there is a record, the views had their chance.
    """
    with sealed_reading(lab, state, ending.key):
        result = _measured(lab, run, state, ending)
    lab.watcher.arm_ended(result)
    lab.store.put_arm(result)
    return result


def _measured(lab: Lab, run: Runner, state: ArmState, ending: Ending) -> ArmResult:
    assert state.incumbent is not None
    incumbent = state.incumbent
    best = best_program(lab, run, state, ending.finalists)
    agent = Agent(incumbent.scaffold, incumbent.adapter)
    sealed = evaluate(lab, run, agent, sealed_sample(lab), state.seed, f"{state.arm.name} seed {state.seed} sealed")
    return ArmResult(
        key=ending.key,
        experiment=lab.experiment.metadata.name,
        arm=state.arm.name,
        seed=state.seed,
        control=state.arm.control,
        generations=tuple(g.id for g in state.history),
        incumbent=incumbent.id,
        stopped=ending.stopped,
        select=incumbent.select,
        sealed=sealed.score,
        guards=lab.verifier.guards(sealed.score.metrics),
        best=best,
        baselines=baselines(lab, run),
        factorial=factorial(lab, run, state),
        spend=ending.spend,
        reading=number_of_reading(lab, state, ending.key),
    )


def best_program(lab: Lab, run: Runner, state: ArmState, finalists: Sequence[str]) -> BestProgram | None:
    """Choose the best of the finalists by their mean over the train instances, then measure it on the other splits."""
    if not finalists:
        return None
    label = f"{state.arm.name} seed {state.seed} best program"
    record = run(lab, _prepare_choice(lab, finalists, label))
    return BestProgram(
        answer=record.outputs["answer"],
        train=record.result["train"],
        select=Score.model_validate(record.result["select"]),
        sealed=Score.model_validate(record.result["sealed"]),
    )


def _prepare_choice(lab: Lab, finalists: Sequence[str], label: str) -> Prepared:
    oid = lab.store.objects.put_bytes(json.dumps(list(finalists)).encode())
    splits = {s: _instances(lab, s) for s in ("train", "select", "sealed")}
    step = Step(
        name="select program",
        version=1,
        params={"instances": splits, "limits": lab.limits_digest},
        inputs={**lab.inputs, "finalists": oid},
        seed=0,
    )
    return Prepared("select program", label, step, lambda: _choose(lab, finalists))


def _choose(lab: Lab, finalists: Sequence[str]) -> StepOutput:
    means = [score_program(lab, program, "train").mean for program in finalists]
    chosen = finalists[max(range(len(means)), key=lambda i: means[i])]
    result = {
        "train": max(means),
        "select": score_program(lab, chosen, "select").model_dump(mode="json"),
        "sealed": score_program(lab, chosen, "sealed").model_dump(mode="json"),
    }
    spend = Spend(verifications=len(finalists) * _instances(lab, "train"))
    return StepOutput({"answer": lab.store.objects.put_bytes(chosen.encode())}, result, spend, lab.isolation)


def score_program(lab: Lab, program: str, split: Split) -> Score:
    """Score one program on every instance of a split."""
    instances = lab.instances(split, _instances(lab, split))
    scorer = lab.sealed_scorer if split == "sealed" else lab.scorer
    verdicts = scorer.score([(instance, program) for instance in instances])
    grouped = {i.id: [v] for i, v in zip(instances, verdicts, strict=True)}
    return summarize(split, instance_ids(instances), grouped)


def _instances(lab: Lab, split: Split) -> int:
    return {
        "train": lab.spec.rollouts.instances,
        "select": lab.spec.verify.select.instances,
        "sealed": lab.spec.verify.sealed.instances,
    }[split]


def baselines(lab: Lab, run: Runner) -> dict[str, Mapping[str, float]]:
    """Return the mean reward of the task's published baselines on each split."""
    splits: dict[Split, int] = {s: _instances(lab, s) for s in ("train", "select", "sealed")}
    step = Step("baselines", 1, {"instances": splits}, {**lab.inputs, "base": None}, 0)
    record = run(lab, Prepared("verify", "baselines", step, lambda: _baselines(lab, splits)))
    table: dict[str, Mapping[str, float]] = record.result
    return table


def _baselines(lab: Lab, splits: Mapping[Split, int]) -> StepOutput:
    table: dict[str, dict[str, float]] = {}
    for split, count in splits.items():
        verdicts = [lab.verifier.baselines(instance) for instance in lab.instances(split, count)]
        for name in verdicts[0]:
            table.setdefault(name, {})[split] = fmean(v[name].reward for v in verdicts)
            for metric in verdicts[0][name].metrics:
                table[name][f"{split}/{metric}"] = fmean(v[name].metrics[metric] for v in verdicts)
    return StepOutput(result=table)


def factorial(lab: Lab, run: Runner, state: ArmState) -> tuple[Cell, ...]:
    """Measure {first, best scaffold} x {base, best adapter} on select, for an arm that pulled the weights."""
    assert state.incumbent is not None
    first, best = state.history[0], state.incumbent
    if best.adapter is None:
        return ()
    cells = []
    for scaffold_name, scaffold in (("first", first.scaffold), ("best", best.scaffold)):
        for weights_name, adapter in (("base", None), ("best", best.adapter)):
            label = f"{state.arm.name} seed {state.seed} {scaffold_name} scaffold, {weights_name} weights"
            found = evaluate(lab, run, Agent(scaffold, adapter), select_sample(lab), state.seed, label)
            cells.append(
                Cell.model_validate({"scaffold": scaffold_name, "weights": weights_name, "score": found.score})
            )
    return tuple(cells)


def arm_key(lab: Lab, state: ArmState, extra: Mapping[str, float | str | None] | None = None) -> str:
    """Return the key of an arm's result: all that it depends on, the other arms and seeds left out."""
    spec = lab.spec.model_dump(mode="json", exclude={"approve", "arms", "seeds", "schedule", "track"})
    further = {name: spec["budget"][name] for name in ("total", "roles", "gpu") if name in spec["budget"]}
    spec["budget"] = {name: spec["budget"].get(name) for name in ("generations", "rollouts", "tokens", "usd")} | further
    spec["rollouts"] = {k: v for k, v in spec["rollouts"].items() if k != "workers"}
    arm = state.arm.model_dump(mode="json")
    return digest([lab.experiment.metadata.name, spec, arm, state.seed, lab.inputs, dict(extra or {})])
