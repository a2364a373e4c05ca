"""Roll a scaffold and a policy out on a split, and verify the answers: two steps.

Invariant: the seeds depend on run seed, split, instance and sample alone, so two generations are compared under the
same draws, and the same scaffold and policy are never paid for twice.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sia_flow.canonical import digest_bytes
from sia_flow.lineage.jsonl import dump_lines, load_lines
from sia_flow.lineage.records import Score, Spend, Split, Trajectory, Verdict
from sia_flow.lineage.store import Step, StepOutput, StepRecord
from sia_flow.loop.lab import Lab
from sia_flow.loop.parts import Rolled, roll, verify
from sia_flow.loop.prepared import Prepared, Runner
from sia_flow.protocols import Instance
from sia_flow.rollout.engine import plan_work
from sia_flow.verify.gate import summarize

BATCH = 128
"""Rollouts that go through the policy together, where the spec does not say."""


@dataclass(frozen=True, slots=True)
class Agent:
    """What is evaluated: a scaffold (object id) on a policy (adapter object id, or the bare base)."""

    scaffold: str
    adapter: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """On what it is evaluated."""

    split: Split
    instances: int
    samples: int
    stream: str = ""
    """Names the stream of seeds; empty for the usual one."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The two step records and what they hold."""

    rollout: StepRecord
    verify: StepRecord
    score: Score

    @property
    def spend(self) -> Spend:
        """Cost of both steps."""
        return self.rollout.spend + self.verify.spend

    def trajectories(self, lab: Lab) -> list[Trajectory]:
        """Load the trajectories."""
        return load_lines(lab.store.objects.get_bytes(self.rollout.outputs["trajectories"]), Trajectory)

    def verdicts(self, lab: Lab) -> list[Verdict]:
        """Load the verdicts, in the order of the trajectories."""
        return load_lines(lab.store.objects.get_bytes(self.verify.outputs["verdicts"]), Verdict)


def evaluate(lab: Lab, run: Runner, agent: Agent, sample: Sample, seed: int, label: str) -> Evaluation:
    """Run both steps and return what they found."""
    rollout = run(lab, prepare_rollout(lab, agent, sample, seed, label))
    if lab.spec.sandbox.network:
        lab.drop_work(rollout.key)
    verify = run(lab, prepare_verify(lab, rollout, sample, label))
    return Evaluation(rollout, verify, Score.model_validate(verify.result))


def prepare_rollout(lab: Lab, agent: Agent, sample: Sample, seed: int, label: str) -> Prepared:
    """Prepare the rollouts of an agent on a sample of a split."""
    step = Step(
        name="rollout",
        version=1,
        params={
            "split": sample.split,
            "instances": sample.instances,
            "samples": sample.samples,
            "stream": sample.stream,
            "limits": lab.limits_digest,
            **lab.batch,
        },
        inputs={**lab.inputs, "scaffold": agent.scaffold, "adapter": agent.adapter},
        seed=seed,
    )
    total = sample.instances * sample.samples
    return Prepared("rollout", label, step, lambda: _rollout(lab, agent, sample, step, label), total)


def _rollout(lab: Lab, agent: Agent, sample: Sample, step: Step, label: str) -> StepOutput:
    instances = lab.instances(sample.split, sample.instances)
    work = plan_work(instances, sample.samples, step.seed, "rollout", sample.stream)
    scaffold = lab.store.objects.get_sources(agent.scaffold)
    policy = lab.policy(agent.adapter)
    alone = sample.split == "sealed"
    rolled = Rolled(scaffold, policy, sample.split, sample.instances, step.key, agent.adapter, alone=alone)
    trajectories = roll(lab, rolled, work, BATCH, functools.partial(lab.watcher.step_advanced, label))
    spend = sum((t.spend for t in trajectories), Spend())
    spend += Spend(verifications=distinct_tool_programs(trajectories))
    oid = lab.store.objects.put_bytes(dump_lines(trajectories))
    return StepOutput({"trajectories": oid}, spend=spend, isolation=lab.isolation)


def prepare_verify(lab: Lab, rollout: StepRecord, sample: Sample, label: str) -> Prepared:
    """Prepare the verification of a rollout step's answers."""
    step = Step(
        name="verify",
        version=1,
        params={"split": sample.split, "instances": sample.instances, "limits": lab.limits_digest},
        inputs={**lab.inputs, "trajectories": rollout.outputs["trajectories"]},
        seed=0,
    )
    return Prepared("verify", label, step, lambda: _verify(lab, rollout, sample), None)


def _verify(lab: Lab, rollout: StepRecord, sample: Sample) -> StepOutput:
    data = lab.store.objects.get_bytes(rollout.outputs["trajectories"])
    trajectories = load_lines(data, Trajectory)
    instances = {i.id: i for i in lab.instances(sample.split, sample.instances)}
    items = [(instances[t.instance], t.answer) for t in trajectories]
    if sample.split == "sealed":
        verdicts = lab.sealed_scorer.score(items)
    else:
        verdicts = verify(lab, sample.split, sample.instances, items)
    verdicts = [explain_failure(t, v) for t, v in zip(trajectories, verdicts, strict=True)]
    score = summarize(sample.split, list(instances), by_instance(trajectories, verdicts))
    oid = lab.store.objects.put_bytes(dump_lines(verdicts))
    spend = Spend(verifications=len({(t.instance, t.answer) for t in trajectories if t.answer is not None}))
    return StepOutput({"verdicts": oid}, score.model_dump(mode="json"), spend, lab.isolation)


def explain_failure(trajectory: Trajectory, verdict: Verdict) -> Verdict:
    """Give a missing answer the scaffold's own failure as its reason."""
    if trajectory.status == "OK":
        return verdict
    reason = f"scaffold_{trajectory.status.lower()}"
    return verdict.model_copy(update={"reason": reason, "feedback": trajectory.error})


def by_instance(trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Group verdicts by instance id, in sample order."""
    groups: dict[str, list[Verdict]] = {}
    for trajectory, verdict in zip(trajectories, verdicts, strict=True):
        groups.setdefault(trajectory.instance, []).append(verdict)
    return groups


def distinct_tool_programs(trajectories: Sequence[Trajectory]) -> int:
    """Count the distinct programs that scaffolds scored on visible data."""
    seen = {
        (t.instance, digest_bytes(str(call.arguments.get("program")).encode()))
        for t in trajectories
        for call in t.tools
        if call.name == "score_visible"
    }
    return len(seen)


def top_programs(
    trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict], count: int
) -> list[dict[str, str | float]]:
    """Return the best distinct valid programs with their best reward, best first."""
    pairs = zip(trajectories, verdicts, strict=True)
    return rank_programs(((t.answer, v.reward) for t, v in pairs if v.valid and t.answer is not None), count)


def rank_programs(found: Iterable[tuple[str, float]], count: int) -> list[dict[str, str | float]]:
    """Return the best `count` distinct programs of (program, reward) pairs, each with its best reward, best first."""
    best: dict[str, float] = {}
    for program, reward in found:
        best[program] = max(reward, best.get(program, reward))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:count]
    return [{"program": program, "reward": reward} for program, reward in ranked]


def as_pairs(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Return ranked entries, as they are stored, as the pairs that `rank_programs` takes."""
    return [(str(entry["program"]), float(entry["reward"])) for entry in entries]


def instance_ids(instances: Sequence[Instance]) -> list[str]:
    """Return the ids in order."""
    return [instance.id for instance in instances]
