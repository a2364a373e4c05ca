"""The host's side of a batch of running scaffolds: it answers their calls and keeps the log.

Invariant: what is logged is what the host sampled or scored; a scaffold can neither change nor add to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import ToolCall, Turn, Verdict
from sia_flow.protocols import Call, Completion, Instance, RequestError, Sampler, SampleRequest, TaskTools
from sia_flow.rollout.fetching import Asked, Fetching, NotGranted, logged, told
from sia_flow.rollout.network.answers import Answer
from sia_flow.rollout.requests import RefusedRequest, parse_generate, parse_program

START = "start"
"""Key of `job.instance` under which a rollout that starts from an earlier solution finds it."""

MAX_TURNS = 128
MAX_TOOL_CALLS = 128

ScoreVisible = Callable[[Sequence[tuple[Instance, str | None]]], Sequence[Verdict]]


@dataclass(frozen=True, slots=True)
class Work:
    """One rollout to run."""

    instance: Instance
    sample: int
    seed: int
    start: str | None = None
    """An earlier solution to start from."""

    @property
    def public(self) -> Mapping[str, Any]:
        """What the scaffold sees of the instance."""
        return self.instance.public if self.start is None else {**self.instance.public, START: self.start}


@dataclass(slots=True)
class Log:
    """What the host has seen of one running rollout."""

    turns: list[Turn] = field(default_factory=list)
    tools: list[ToolCall] = field(default_factory=list)
    calls: int = 0
    fetches: int = 0
    """Of `tools`, those that are calls of services."""


class Host:
    """Answers the calls of one batch: all of a round together, or one at a time from several threads."""

    def __init__(
        self,
        work: Sequence[Work],
        sampler: Sampler,
        score_visible: ScoreVisible,
        max_tokens: int,
        tools: TaskTools | None = None,
        fetching: Fetching | None = None,
    ) -> None:
        self.work = work
        self.sampler = sampler
        self.score_visible = score_visible
        self.max_tokens = max_tokens
        self.tools = tools
        self.fetching = fetching
        self.logs = [Log() for _ in work]
        self._version = sampler.version
        self._lock = threading.Lock()
        """Held for what runs here, tools and scores; only the sampler is asked by several at once."""

    def serve(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Return one answer a call, in order; a RefusedRequest is raised inside the scaffold."""
        answers: dict[int, Any] = {}
        asked: dict[int, SampleRequest] = {}
        programs: dict[int, str] = {}
        pages: dict[int, Asked] = {}
        for number, call in enumerate(calls):
            try:
                if call.method == "fetch":
                    pages[number] = self._wanted(call)
                elif not self._sort(number, call, asked, programs):
                    with self._lock:
                        answers[number] = self._tool(call)
            except RefusedRequest as error:
                answers[number] = error
        answers |= self._fetch(calls, pages)
        answers |= self._generate(calls, asked)
        answers |= self._score(calls, programs)
        return [answers[number] for number in range(len(calls))]

    def _sort(self, number: int, call: Call, asked: dict[int, SampleRequest], programs: dict[int, str]) -> bool:
        """Sort a call in with those that are answered together; return false for one of the task's tools."""
        log = self.logs[call.job]
        if call.method == "generate":
            asked[number] = self._request(call, log)
            return True
        if call.method.startswith("tool:") and len(log.tools) - log.fetches >= MAX_TOOL_CALLS:
            raise RefusedRequest(f"{call.method[5:]}: more than {MAX_TOOL_CALLS} calls in one rollout")
        if call.method == "tool:score_visible":
            programs[number] = parse_program(call.params)
            return True
        return False

    def _tool(self, call: Call) -> Any:
        """Answer a call of one of the task's tools at once, and log it."""
        name = call.method.removeprefix("tool:")
        if self.tools is None or name not in self.tools.names or not call.method.startswith("tool:"):
            known = ", ".join(["score_visible(program=...)", *(self.tools.names if self.tools else ())])
            raise RefusedRequest(f"{call.method}: no such tool; there is {known}")
        log = self.logs[call.job]
        try:
            result = self.tools.call(name, self.work[call.job].instance, call.params)
        except ValueError as error:
            raise RefusedRequest(str(error)) from error
        arguments = dict(call.params)
        log.tools.append(ToolCall(name=name, arguments=arguments, result=result, after_turn=len(log.turns)))
        return result

    def _wanted(self, call: Call) -> Asked:
        """Return a page that may be read; a request that no grant covers is on record, too."""
        if self.fetching is None:
            raise RefusedRequest("fetch: nothing is granted; the user may name services under spec.sandbox.network")
        item, log = self.work[call.job], self.logs[call.job]
        try:
            return self.fetching.ask(call.params, [item.instance.id, item.sample, item.seed], log.fetches)
        except NotGranted as error:
            self._fetched(call, Answer(refused=str(error)))
            raise

    def _fetched(self, call: Call, answer: Answer) -> None:
        log = self.logs[call.job]
        log.fetches += 1
        log.tools.append(logged(call.params, answer, len(log.turns)))

    def _fetch(self, calls: Sequence[Call], pages: dict[int, Asked]) -> dict[int, Any]:
        if self.fetching is None or not pages:
            return {}
        answers = {}
        for (number, _), answer in zip(pages.items(), self.fetching.answer(pages.values()), strict=True):
            self._fetched(calls[number], answer)
            answers[number] = told(answer)
        return answers

    def _request(self, call: Call, log: Log) -> SampleRequest:
        asked = parse_generate(call.params)
        if len(log.turns) + asked.n > MAX_TURNS:
            raise RefusedRequest(f"generate: more than {MAX_TURNS} completions in one rollout")
        log.calls += 1
        return SampleRequest(
            messages=asked.plain_messages(),
            n=asked.n,
            temperature=asked.temperature,
            max_tokens=min(asked.max_tokens or self.max_tokens, self.max_tokens),
            seed=derive_seed(self.work[call.job].seed, "generate", log.calls),
            tools=asked.plain_tools(),
        )

    def _generate(self, calls: Sequence[Call], asked: dict[int, SampleRequest]) -> dict[int, Any]:
        answers: dict[int, Any] = {}
        for (number, request), completions in zip(asked.items(), self._sample(list(asked.values())), strict=True):
            if isinstance(completions, RefusedRequest):
                answers[number] = completions
                continue
            turns = [_turn(request, completion, self._version) for completion in completions]
            self.logs[calls[number].job].turns.extend(turns)
            answers[number] = [_said(turn) for turn in turns]
        return answers

    def _sample(self, requests: Sequence[SampleRequest]) -> Sequence[Sequence[Completion] | RefusedRequest]:
        """Sample; where a request is at fault, all others alone, which gives them the same completions."""
        if not requests:
            return []
        try:
            return self.sampler.sample(requests)
        except RequestError as error:
            if len(requests) == 1:
                return [RefusedRequest(f"generate: {error}")]
            return [found for request in requests for found in self._sample([request])]

    def _score(self, calls: Sequence[Call], programs: dict[int, str]) -> dict[int, dict[str, Any]]:
        if not programs:
            return {}
        items = [(self.work[calls[number].job].instance, program) for number, program in programs.items()]
        answers = {}
        with self._lock:
            verdicts = self.score_visible(items)
        for (number, program), verdict in zip(programs.items(), verdicts, strict=True):
            log = self.logs[calls[number].job]
            answers[number] = verdict.model_dump(mode="json", include={"reward", "valid", "reason", "feedback"})
            arguments = {"program": program}
            log.tools.append(
                ToolCall(name="score_visible", arguments=arguments, result=answers[number], after_turn=len(log.turns))
            )
        return answers


def _said(turn: Turn) -> str | dict[str, Any]:
    """Return what the scaffold gets: the text, with its calls where there are any."""
    return {"text": turn.text, "calls": [dict(call) for call in turn.calls]} if turn.calls else turn.text


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
        rescored=completion.rescored,
        offered=request.tools,
        calls=tuple(call._asdict() for call in completion.calls),
    )
