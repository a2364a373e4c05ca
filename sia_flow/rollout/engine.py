"""Runs a scaffold on a policy over many instances: sandboxed scaffolds on one side, batched sampling on the other.

Invariants: the host alone writes the trajectory; every rollout of a batch gets its own seed, and since calls are
answered in rounds, or each for itself, a trajectory depends on nothing but its scaffold, policy, instance and seed, and
on what services answered where some are granted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Spend, Trajectory
from sia_flow.protocols import Instance, Job, Limits, Outcome, Sampler, Session, TaskTools
from sia_flow.rollout.fetching import Fetching
from sia_flow.rollout.host import Host, Log, ScoreVisible, Work

MAIN = "scaffold.py"

__all__ = ["RolloutEngine", "Work", "plan_work"]


class RolloutEngine:
    """Rolls scaffolds out in a session; `score_visible` answers the tool of that name, `fetching` reads the web."""

    def __init__(
        self,
        session: Session,
        score_visible: ScoreVisible,
        limits: Limits,
        max_tokens: int,
        tools: TaskTools | None = None,
        fetching: Fetching | None = None,
    ) -> None:
        self.session = session
        self.score_visible = score_visible
        self.limits = limits
        self.max_tokens = max_tokens
        self.tools = tools
        self.fetching = fetching

    def run(self, scaffold: Mapping[str, str], sampler: Sampler, work: Sequence[Work]) -> list[Trajectory]:
        """Return one trajectory for each piece of work, in order. Raises InfrastructureError."""
        held = sampler.hold()
        host = Host(work, held, self.score_visible, self.max_tokens, self.tools, self.fetching)
        files = {name: text for name, text in scaffold.items() if name != MAIN}
        jobs = [Job(scaffold[MAIN], "solve", instance=item.public, seed=item.seed, files=files) for item in work]
        outcomes = self.session.run(jobs, self.limits, host.serve, held.at_once)
        return [_trajectory(*parts) for parts in zip(work, host.logs, outcomes, strict=True)]


def _trajectory(item: Work, log: Log, outcome: Outcome) -> Trajectory:
    answer = outcome.value if outcome.status == "OK" and isinstance(outcome.value, str) else None
    spend = Spend(
        rollouts=1,
        prompt_tokens=sum(len(turn.prompt_ids) for turn in log.turns),
        completion_tokens=sum(len(turn.completion_ids) for turn in log.turns),
    )
    return Trajectory(
        instance=item.instance.id,
        sample=item.sample,
        seed=item.seed,
        turns=tuple(log.turns),
        tools=tuple(log.tools),
        answer=answer,
        status=outcome.status,
        error=outcome.error,
        spend=spend,
    )


def plan_work(
    instances: Sequence[Instance], samples: int, *seed: str | int, starts: Mapping[str, str] | None = None
) -> list[Work]:
    """Return `samples` rollouts for each instance, each with its own seed made from `seed`, instance and sample.

    `starts` has the earlier solution that an instance's rollouts start from, by the instance's id.
    """
    return [
        Work(instance, sample, derive_seed(*seed, instance.id, sample), (starts or {}).get(instance.id))
        for instance in instances
        for sample in range(samples)
    ]
