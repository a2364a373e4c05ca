"""The weight lever: one step that runs the inner on-policy loop through the frozen scaffold.

Invariants: what an iteration collected (spend, best programs) is written before its update counts, so that a run
resumed in the middle adds up to the same record as an uninterrupted one; no verdict is computed twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sia_flow.canonical import Json, canonical_json, derive_seed, digest_bytes
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Spend, Trajectory, Verdict, WeightPlan
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.evaluate import Agent, as_pairs, distinct_tool_programs, rank_programs, top_programs
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared
from sia_flow.rollout.engine import plan_work

if TYPE_CHECKING:
    from sia_flow.policy.local import LocalPolicy
    from sia_flow.training.types import Episode

KEPT_PROGRAMS = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the experiment a weight update happens, for those who watch."""

    arm: str
    seed: int
    index: int
    label: str


def prepare_train(lab: Lab, agent: Agent, plan: WeightPlan, place: Place) -> Prepared:
    """Prepare the update of `agent`'s weights by `plan`."""
    training, lora = lab.spec.training, lab.spec.policy.lora
    step = Step(
        name="train-LoRA",
        version=1,
        params={
            "plan": plan.model_dump(mode="json", exclude={"reason"}),
            "lora": lora.model_dump(mode="json"),
            "training": training.model_dump(mode="json", exclude={"algorithm", "iterations", "learning_rate", "kl"}),
            "limits": lab.limits_digest,
        },
        inputs={**lab.inputs, "scaffold": agent.scaffold, "adapter": agent.adapter},
        seed=place.seed,
    )
    return Prepared("train-LoRA", place.label, step, lambda: _train(lab, agent, plan, place, step.key), plan.iterations)


def _train(lab: Lab, agent: Agent, plan: WeightPlan, place: Place, key: str) -> StepOutput:
    from sia_flow.training.trainer import pull
    from sia_flow.training.types import PullConfig

    training = lab.spec.training
    work = lab.work_dir(key)
    seed = derive_seed(place.seed, "train-LoRA", key)
    policy = lab.trainable_policy(agent.adapter, seed)
    collector = _Collector(lab, agent, policy, work)
    config = PullConfig(
        algorithm=plan.algorithm,
        iterations=plan.iterations,
        learning_rate=plan.learning_rate,
        kl=plan.kl,
        epochs=training.epochs,
        scale=training.scale,
        clip=training.clip,
        grad_norm=training.grad_norm,
        max_kl=training.max_kl,
        seed=seed,
    )

    def on_step(iteration: int, metrics: Mapping[str, float]) -> None:
        lab.watcher.step_advanced(place.label, iteration + 1, f"reward {metrics['reward_mean']:.4f}")
        lab.watcher.training_step(place.arm, place.seed, place.index, iteration, metrics)

    update = pull(policy, collector.collect, config, work / "pull", on_step)
    adapter = lab.store.objects.put_folder(update.adapter)
    spend, programs = collector.total(len(update.steps))
    result = {"status": update.status, "note": update.note, "steps": [dict(step) for step in update.steps]}
    outputs = {"adapter": adapter, "programs": lab.store.objects.put_bytes(canonical_json(programs))}
    return StepOutput(outputs, result, spend + Spend(updates=update.updates), lab.isolation)


class _Collector:
    """Rolls the frozen scaffold out on the policy as it is now, and verifies."""

    def __init__(self, lab: Lab, agent: Agent, policy: LocalPolicy, work: Path) -> None:
        self.lab = lab
        self.policy = policy
        self.work = work
        self.scaffold = lab.store.objects.get_sources(agent.scaffold)
        self.instances = lab.instances("train", lab.spec.training.instances)

    def collect(self, iteration: int, seed: int) -> Sequence[Episode]:
        """Return one episode a rollout; write what the iteration cost and found."""
        self.lab.stop.obey()
        work = plan_work(self.instances, self.lab.spec.training.samples, seed)
        trajectories = self.lab.engine("train").run(self.scaffold, self.policy, work)
        by_id = {instance.id: instance for instance in self.instances}
        verdicts = self.lab.scorer.score([(by_id[t.instance], t.answer) for t in trajectories])
        self._note(iteration, trajectories, verdicts)
        return [_episode(t, v) for t, v in zip(trajectories, verdicts, strict=True)]

    def _note(self, iteration: int, trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]) -> None:
        spend = sum((t.spend for t in trajectories), Spend(verifications=distinct_tool_programs(trajectories)))
        answers = {(t.instance, t.answer) for t in trajectories if t.answer is not None}
        note: dict[str, Json] = {
            "spend": spend.model_dump(mode="json"),
            "programs": top_programs(trajectories, verdicts, KEPT_PROGRAMS),
            "answers": sorted(digest_bytes(f"{instance}\0{answer}".encode()) for instance, answer in answers),
        }
        write_atomic(self._path(iteration), canonical_json(note), sync=False)

    def total(self, iterations: int) -> tuple[Spend, list[dict[str, Any]]]:
        """Return the spend of the first `iterations` iterations and the best programs that they found."""
        notes = [json.loads(self._path(i).read_bytes()) for i in range(iterations)]
        spend = sum((Spend.model_validate(note["spend"]) for note in notes), Spend())
        answers = {answer for note in notes for answer in note["answers"]}
        programs = rank_programs((p for note in notes for p in as_pairs(note["programs"])), KEPT_PROGRAMS)
        return spend + Spend(verifications=len(answers)), programs

    def _path(self, iteration: int) -> Path:
        return self.work / f"collected-{iteration:04d}.json"


def _episode(trajectory: Trajectory, verdict: Verdict) -> Episode:
    from sia_flow.training.types import Episode

    return Episode(trajectory.instance, trajectory.turns, verdict.reward, verdict.valid)
