"""Runs a scaffold on a policy over many instances: sandboxed scaffolds on one side, batched sampling on the other.

Invariants: the host alone writes the trajectory; every rollout of a batch gets its own seed, and since calls are
answered in rounds, a trajectory depends on nothing but its scaffold, policy, instance and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Spend, ToolCall, Trajectory, Turn, Verdict
from sia_flow.protocols import (
    Call,
    Completion,
    Instance,
    Job,
    Limits,
    Outcome,
    SampleRequest,
    Sampler,
    Session,
)
from sia_flow.rollout.requests import RefusedRequest, parse_generate, parse_program

MAX_TURNS = 128
MAX_TOOL_CALLS = 128

ScoreVisible = Callable[[Sequence[tuple[Instance, str | None]]], Sequence[Verdict]]


@dataclass(frozen=True, slots=True)
class Work:
    """One rollout to run."""

    instance: Instance
    sample: int
    seed: int


@dataclass(slots=True)
class _Log:
    """What the host has seen of one running rollout."""

    turns: list[Turn] = field(default_factory=list)
    tools: list[ToolCall] = field(default_factory=list)
    calls: int = 0


class RolloutEngine:
    """Rolls scaffolds out in a session; `score_visible` answers the tool of that name."""

    def __init__(self, session: Session, score_visible: ScoreVisible, limits: Limits, max_tokens: int) -> None:
        self.session = session
        self.score_visible = score_visible
        self.limits = limits
        self.max_tokens = max_tokens

    def run(self, scaffold: Mapping[str, str], sampler: Sampler, work: Sequence[Work]) -> list[Trajectory]:
        """Return one trajectory for each piece of work, in order. Raises InfrastructureError."""
        logs = [_Log() for _ in work]
        files = {name: text for name, text in scaffold.items() if name != "scaffold.py"}
        jobs = [
            Job(
                source=scaffold["scaffold.py"],
                entry="solve",
                instance=dict(item.instance.public),
                seed=item.seed,
                files=files,
            )
            for item in work
        ]

        def serve(calls: Sequence[Call]) -> Sequence[Any]:
            return self._serve(calls, work, logs, sampler)

        outcomes = self.session.run(jobs, self.limits, serve)
        return [_trajectory(item, log, outcome) for item, log, outcome in zip(work, logs, outcomes, strict=True)]

    def _serve(
        self, calls: Sequence[Call], work: Sequence[Work], logs: list[_Log], sampler: Sampler
    ) -> Sequence[Any]:
        replies: list[Any] = [RefusedRequest("unknown request")] * len(calls)
        generate = [i for i, call in enumerate(calls) if call.method == "generate"]
        visible = [i for i, call in enumerate(calls) if call.method == "tool:score_visible"]
        self._generate(generate, calls, work, logs, sampler, replies)
        self._score(visible, calls, work, logs, replies)
        for i in set(range(len(calls))) - set(generate) - set(visible):
            replies[i] = RefusedRequest(f"{calls[i].method}: no such tool; there is score_visible(program=...)")
        return replies

    def _generate(  # noqa: PLR0913 - one round's state, all of it needed
        self,
        indices: Sequence[int],
        calls: Sequence[Call],
        work: Sequence[Work],
        logs: list[_Log],
        sampler: Sampler,
        replies: list[Any],
    ) -> None:
        requests: list[tuple[int, SampleRequest]] = []
        for i in indices:
            job = calls[i].job
            try:
                requests.append((i, self._request(calls[i], work[job].seed, logs[job])))
            except RefusedRequest as error:
                replies[i] = error
        sampled = sampler.sample([request for _, request in requests]) if requests else []
        for (i, request), completions in zip(requests, sampled, strict=True):
            logs[calls[i].job].turns.extend(_turn(request, completion, sampler.version) for completion in completions)
            replies[i] = [completion.text for completion in completions]

    def _request(self, call: Call, seed: int, log: _Log) -> SampleRequest:
        asked = parse_generate(call.params)
        if len(log.turns) + asked.n > MAX_TURNS:
            raise RefusedRequest(f"generate: more than {MAX_TURNS} completions in one rollout")
        log.calls += 1
        return SampleRequest(
            messages=asked.plain_messages(),
            n=asked.n,
            temperature=asked.temperature,
            max_tokens=min(asked.max_tokens or self.max_tokens, self.max_tokens),
            seed=derive_seed(seed, "generate", log.calls),
        )

    def _score(
        self,
        indices: Sequence[int],
        calls: Sequence[Call],
        work: Sequence[Work],
        logs: list[_Log],
        replies: list[Any],
    ) -> None:
        wanted: list[tuple[int, str]] = []
        for i in indices:
            try:
                if len(logs[calls[i].job].tools) >= MAX_TOOL_CALLS:
                    raise RefusedRequest(f"score_visible: more than {MAX_TOOL_CALLS} calls in one rollout")
                wanted.append((i, parse_program(calls[i].params)))
            except RefusedRequest as error:
                replies[i] = error
        verdicts = self.score_visible([(work[calls[i].job].instance, program) for i, program in wanted])
        for (i, program), verdict in zip(wanted, verdicts, strict=True):
            log = logs[calls[i].job]
            reply = {
                "reward": verdict.reward,
                "valid": verdict.valid,
                "reason": verdict.reason,
                "feedback": verdict.feedback,
            }
            log.tools.append(
                ToolCall(name="score_visible", arguments={"program": program}, result=reply, after_turn=len(log.turns))
            )
            replies[i] = reply


def _turn(request: SampleRequest, completion: Completion, policy: str) -> Turn:
    return Turn(
        messages=request.messages,
        text=completion.text,
        prompt_ids=completion.prompt_ids,
        completion_ids=completion.completion_ids,
        logprobs=completion.logprobs,
        temperature=request.temperature,
        finish=completion.finish,
        policy=policy,
    )


def _trajectory(item: Work, log: _Log, outcome: Outcome) -> Trajectory:
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


def plan_work(instances: Sequence[Instance], samples: int, *seed: str | int) -> list[Work]:
    """Return `samples` rollouts for each instance, each with its own seed made from `seed`, instance and sample."""
    return [
        Work(instance, sample, derive_seed(*seed, instance.id, sample))
        for instance in instances
        for sample in range(samples)
    ]
