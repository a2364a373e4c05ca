"""Trajectories as MLflow traces: a sample of the best, the worst and the failed, with their reward as
feedback.

Invariants: a trace's id is the hash of its run and trajectory, so that showing it twice shows it once; the
records hold no times, so spans tell the order of calls (a millisecond each), never their duration.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sia_flow.canonical import digest
from sia_flow.lineage.records import ToolCall, Trajectory, Turn, Verdict

if TYPE_CHECKING:
    from mlflow.entities import Feedback, Span
    from mlflow.tracing.client import TracingClient

MILLISECOND = 1_000_000
MAX_SPANS = 64
TEXT_LIMIT = 20_000


class Sampled(NamedTuple):
    """A trajectory that is worth a trace, and why."""

    position: int
    why: str


def pick(verdicts: Sequence[Verdict], count: int) -> list[Sampled]:
    """Return up to `count` indices: in turns the best, the worst valid, and one failure of each reason."""
    valid = sorted((i for i, v in enumerate(verdicts) if v.valid), key=lambda i: (-verdicts[i].reward, i))
    seen: dict[str, int] = {}
    for index, verdict in enumerate(verdicts):
        if not verdict.valid:
            seen.setdefault(verdict.reason, index)
    failed = list(seen.values())
    chosen: dict[int, str] = {}
    while len(chosen) < count and (valid or failed):
        for why, source, end in (("best", valid, 0), ("worst", valid, -1), ("failed", failed, 0)):
            if source and len(chosen) < count:
                chosen[source.pop(end)] = why
    return [Sampled(index, why) for index, why in chosen.items()]


@dataclass(frozen=True, slots=True)
class Place:
    """Where traces are written: the experiment and the run that they belong to."""

    experiment_id: str
    run_id: str
    run_key: str


def show(client: TracingClient, place: Place, trajectory: Trajectory, verdict: Verdict, why: str) -> str:
    """Write one trajectory as a trace, unless it is there, and return the trace's id."""
    from mlflow.entities.trace_info import TraceInfo
    from mlflow.entities.trace_location import TraceLocation
    from mlflow.entities.trace_state import TraceState

    name = f"{trajectory.instance} #{trajectory.sample}"
    trace_id = f"tr-{digest([place.run_key, trajectory.instance, trajectory.sample])[:32]}"
    if _rated(client, trace_id):
        return trace_id
    spans = _spans(trace_id, trajectory, verdict)
    client.log_spans(place.experiment_id, spans)
    tags = {
        "mlflow.traceName": name,
        "sia.sample": why,
        "sia.reason": verdict.reason,
        "sia.times": "order only",
    }
    client.start_trace(
        TraceInfo(
            trace_id=trace_id,
            trace_location=TraceLocation.from_experiment_id(place.experiment_id),
            request_time=spans[0].start_time_ns // MILLISECOND,
            execution_duration=len(spans),
            state=TraceState.OK if verdict.valid else TraceState.ERROR,
            request_preview=_question(trajectory),
            response_preview=_text(trajectory.answer or trajectory.error),
            trace_metadata={"mlflow.sourceRun": place.run_id},
            tags=tags,
        )
    )
    client.log_assessment(trace_id, _reward(verdict))
    return trace_id


def _question(trajectory: Trajectory) -> str:
    return _text(trajectory.turns[0].messages[-1].get("content", "")) if trajectory.turns else ""


def _rated(client: TracingClient, trace_id: str) -> bool:
    # The reward is written last, so a trace that has one is whole.
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_trace_info(trace_id).assessments)
    except MlflowException:
        return False


def _reward(verdict: Verdict) -> Feedback:
    from mlflow.entities import AssessmentSource, Feedback

    return Feedback(
        name="reward",
        value=verdict.reward,
        source=AssessmentSource(source_type="CODE", source_id="verifier"),
        rationale=_text(f"{verdict.reason}: {verdict.feedback}" if verdict.feedback else verdict.reason),
    )


def _spans(trace_id: str, trajectory: Trajectory, verdict: Verdict) -> list[Span]:
    calls = _calls(trajectory)[:MAX_SPANS]
    start = time.time_ns()
    head = _Line("rollout", "AGENT", {"instance": trajectory.instance, "seed": trajectory.seed}, {})
    outputs: dict[str, Any] = {
        "answer": _text(trajectory.answer or ""),
        "status": trajectory.status,
        "error": trajectory.error,
    }
    outputs |= {"reward": verdict.reward, "reason": verdict.reason, "metrics": dict(verdict.metrics)}
    root = head.span(trace_id, 0, start, start + (len(calls) + 1) * MILLISECOND, outputs)
    return [root] + [
        line.span(trace_id, i, start + i * MILLISECOND, start + (i + 1) * MILLISECOND, line.outputs)
        for i, line in enumerate(calls, 1)
    ]


def _calls(trajectory: Trajectory) -> list[_Line]:
    lines: list[_Line] = []
    tools = list(trajectory.tools)
    for count in range(len(trajectory.turns) + 1):
        lines += [_tool(call) for call in tools if call.after_turn == count]
        if count < len(trajectory.turns):
            lines.append(_turn(trajectory.turns[count]))
    return lines


def _turn(turn: Turn) -> _Line:
    tokens = {"input_tokens": len(turn.prompt_ids), "output_tokens": len(turn.completion_ids)}
    attributes = {
        "mlflow.chat.tokenUsage": tokens | {"total_tokens": sum(tokens.values())},
        "temperature": turn.temperature,
        "finish": turn.finish,
        "policy": turn.policy,
    }
    messages = {"messages": [{k: _text(v) for k, v in message.items()} for message in turn.messages]}
    return _Line("generate", "LLM", messages, attributes, {"role": "assistant", "content": _text(turn.text)})


def _tool(call: ToolCall) -> _Line:
    return _Line(call.name, "TOOL", dict(call.arguments), {}, call.result)


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    kind: str
    inputs: Any
    attributes: dict[str, Any]
    outputs: Any = None

    def span(self, trace_id: str, index: int, start: int, end: int, outputs: object) -> Span:
        from mlflow.entities import Span

        own = {
            "mlflow.traceRequestId": trace_id,
            "mlflow.spanType": self.kind,
            "mlflow.spanInputs": self.inputs,
            "mlflow.spanOutputs": outputs,
        }
        return Span.from_dict(
            {
                "name": self.name,
                "trace_id": trace_id,
                "span_id": f"{index + 1:016x}",
                "parent_span_id": f"{1:016x}" if index else None,
                "start_time_unix_nano": start,
                "end_time_unix_nano": end,
                "status": {"code": "STATUS_CODE_OK", "message": ""},
                "attributes": {name: json.dumps(value) for name, value in (own | self.attributes).items()},
            }
        )


def _text(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]} [cut, {len(text)} characters]"
