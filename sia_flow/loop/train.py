"""The weight lever: one step that runs the inner on-policy loop through the frozen scaffold.

Invariants: what an iteration collected (spend, best programs) is written before its update counts, so that a run
resumed in the middle adds up to the same record as an uninterrupted one; no verdict is computed twice.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sia_flow.canonical import Json, canonical_json, derive_seed, digest_bytes
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Spend, Trajectory, Verdict, WeightPlan
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.archive import Found
from sia_flow.loop.evaluate import Agent, as_pairs, distinct_tool_programs, rank_programs, top_programs
from sia_flow.loop.lab import Lab
from sia_flow.loop.parts import Rolled, roll, verify
from sia_flow.loop.prepared import Prepared
from sia_flow.loop.reuse import Starts, expansions, showing_starts
from sia_flow.loop.serving import follow
from sia_flow.protocols import Instance, Sampler
from sia_flow.rollout.engine import plan_work

if TYPE_CHECKING:
    from sia_flow.training.types import Episode

KEPT_PROGRAMS = 20
PLANNED = {"algorithm", "menu", "iterations", "learning_rate", "kl"}
"""Settings that a plan has in it, as the Feedback-Agent chose them."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the experiment a weight update happens, for those who watch."""

    arm: str
    seed: int
    index: int
    label: str


def prepare_train(lab: Lab, agent: Agent, plan: WeightPlan, place: Place, earlier: Found = ()) -> Prepared:
    """Prepare the update of `agent`'s weights by `plan`; `earlier` programs are there to start from, if any may be."""
    training, lora = lab.spec.training, lab.spec.policy.lora
    reuse: dict[str, Any] = {}
    first: dict[str, str] = {}
    if lab.spec.reuse.type != "none":
        reuse = {"reuse": lab.spec.reuse.model_dump(mode="json")}
        first = {"earlier programs": lab.store.objects.put_bytes(canonical_json([list(pair) for pair in earlier]))}
    step = Step(
        name="train-LoRA",
        version=1,
        params={
            "plan": plan.model_dump(mode="json", exclude={"reason"}),
            "lora": lora.model_dump(mode="json"),
            "training": training.model_dump(mode="json", exclude=PLANNED),
            "limits": lab.limits_digest,
            **lab.batch,
            **reuse,
        },
        inputs={**lab.inputs, "scaffold": agent.scaffold, "adapter": agent.adapter, **first},
        seed=place.seed,
    )
    body = functools.partial(_train, lab, agent, plan, place, step.key, earlier)
    return Prepared("train-LoRA", place.label, step, body, plan.iterations)


def _train(lab: Lab, agent: Agent, plan: WeightPlan, place: Place, key: str, earlier: Found) -> StepOutput:
    from sia_flow.training.trainer import pull
    from sia_flow.training.types import PullConfig

    training = lab.spec.training
    work = lab.work_dir(key)
    seed = derive_seed(place.seed, "train-LoRA", key)
    policy = lab.trainable_policy(agent.adapter, seed)
    collector = _Collector(lab, agent, follow(lab, policy), key, seed)
    if lab.spec.reuse.type != "none":
        collector.reuse(earlier, place.label)
    config = PullConfig(
        algorithm=plan.algorithm,
        engine=training.engine,
        iterations=plan.iterations,
        learning_rate=plan.learning_rate,
        schedule=training.schedule,
        kl=plan.kl,
        epochs=training.epochs,
        scale=training.scale,
        clip=training.clip,
        grad_norm=training.grad_norm,
        max_kl=training.max_kl,
        backtracks=training.backtracks,
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
    outputs |= collector.rolled()
    return StepOutput(outputs, result, spend + Spend(updates=update.updates), lab.isolation)


class _Collector:
    """Rolls the frozen scaffold out on the policy as it is now, and verifies."""

    def __init__(self, lab: Lab, agent: Agent, policy: Sampler, step: str, seed: int) -> None:
        self.lab = lab
        self.seed = seed
        self.policy = policy
        self.step = step
        self.work = lab.work_dir(step)
        self.scaffold: Mapping[str, str] = lab.store.objects.get_sources(agent.scaffold)
        training = lab.spec.training
        self.instances = training.pool or training.instances
        self.pool = lab.instances("train", self.instances)
        self.starts: Starts | None = None

    def reuse(self, earlier: Found, label: str) -> None:
        """Let rollouts start from earlier programs; where the scaffold cannot show them, warn and leave it."""
        showing = showing_starts(self.scaffold)
        if showing is None:
            words = "the scaffold has no use for a start, and no edit gives it one: all rollouts start from nothing"
            self.lab.watcher.warning(f"{label}: spec.reuse has no effect: {words}")
            return
        self.scaffold = showing
        self.starts = Starts(self.lab.spec.reuse, earlier, self._read)

    def rolled(self) -> dict[str, str]:
        """Return the scaffold that was rolled out, where it is not the agent's own."""
        if self.starts is None:
            return {}
        files = {name: text.encode() for name, text in self.scaffold.items()}
        return {"scaffold that shows starts": self.lab.store.objects.put_tree(files)}

    def collect(self, iteration: int, seed: int) -> Sequence[Episode]:
        """Return one episode a rollout; write what the iteration cost and found."""
        self.lab.stop.obey()
        instances = turn(self.pool, self.lab.spec.training.instances, iteration, self.seed)
        starts = self.starts.plan(iteration, [instance.id for instance in instances]) if self.starts else {}
        work = plan_work(instances, self.lab.spec.training.samples, seed, starts=starts)
        rolled = Rolled(self.scaffold, self.policy, "train", self.instances, self.step, training=True)
        trajectories = roll(self.lab, rolled, work, len(work), lambda _: None)
        by_id = {instance.id: instance for instance in instances}
        items = [(by_id[t.instance], t.answer) for t in trajectories]
        verdicts = verify(self.lab, "train", self.instances, items)
        self._note(iteration, trajectories, verdicts, starts)
        return [_episode(t, v) for t, v in zip(trajectories, verdicts, strict=True)]

    def _note(
        self,
        iteration: int,
        trajectories: Sequence[Trajectory],
        verdicts: Sequence[Verdict],
        starts: Mapping[str, str],
    ) -> None:
        spend = sum((t.spend for t in trajectories), Spend(verifications=distinct_tool_programs(trajectories)))
        answers = {(t.instance, t.answer) for t in trajectories if t.answer is not None}
        note: dict[str, Json] = {
            "spend": spend.model_dump(mode="json"),
            "programs": top_programs(trajectories, verdicts, KEPT_PROGRAMS),
            "answers": sorted(digest_bytes(f"{instance}\0{answer}".encode()) for instance, answer in answers),
        }
        if self.starts is not None:
            note["groups"] = [group.plain() for group in expansions(starts, trajectories, verdicts)]
        write_atomic(self._path(iteration), canonical_json(note), sync=False)

    def total(self, iterations: int) -> tuple[Spend, list[dict[str, Any]]]:
        """Return the spend of the first `iterations` iterations and the best programs that they found."""
        notes = [self._read(i) for i in range(iterations)]
        spend = sum((Spend.model_validate(note["spend"]) for note in notes), Spend())
        answers = {answer for note in notes for answer in note["answers"]}
        programs = rank_programs((p for note in notes for p in as_pairs(note["programs"])), KEPT_PROGRAMS)
        return spend + Spend(verifications=len(answers)), programs

    def _read(self, iteration: int) -> dict[str, Any]:
        note: dict[str, Any] = json.loads(self._path(iteration).read_bytes())
        return note

    def _path(self, iteration: int) -> Path:
        return self.work / f"collected-{iteration:04d}.json"


def turn(pool: Sequence[Instance], count: int, iteration: int, seed: int) -> list[Instance]:
    """Return an iteration's instances: the pool in its order where it holds no more, else each in turn.

    Every pass over the pool has a new order, drawn from the seed.
    """
    if len(pool) <= count:
        return list(pool)
    found: dict[str, Instance] = {}
    position = iteration * count
    while len(found) < count:
        round_, place = divmod(position, len(pool))
        order = sorted(range(len(pool)), key=lambda i: derive_seed(seed, "pool", round_, pool[i].id))
        for index in order[place : place + count - len(found)]:
            found[pool[index].id] = pool[index]
        position += len(order[place : place + count])
    return list(found.values())


def _episode(trajectory: Trajectory, verdict: Verdict) -> Episode:
    from sia_flow.training.types import Episode

    return Episode(trajectory.instance, trajectory.turns, verdict.reward, verdict.valid)
