"""Rollouts and generations as text for a model: bounded, free of control characters, quoted where models wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sia_flow.agents.report import inline, quoted
from sia_flow.lineage.records import Generation, Trajectory, Verdict

WHOLE = 1 << 20


def headline(trajectory: Trajectory, verdict: Verdict) -> str:
    """Return one line on a rollout."""
    outcome = "valid" if verdict.valid else inline(verdict.reason)
    tokens = trajectory.spend.completion_tokens
    calls = f"{len(trajectory.turns)} completions, {len(trajectory.tools)} tool calls, {tokens} tokens"
    return f"instance {trajectory.instance} sample {trajectory.sample}: reward {verdict.reward:.4f}, {outcome}; {calls}"


def rollout_text(trajectory: Trajectory, verdict: Verdict, limit: int = WHOLE) -> str:
    """Return a whole rollout: each prompt, completion and tool call, the answer, the verdict; pieces cut to `limit`."""
    parts = [headline(trajectory, verdict)]
    shown: set[str] = set()
    for number, turn in enumerate(trajectory.turns):
        for message in turn.messages:
            said = f"{message['role']}: {message['content']}"
            if said not in shown:
                shown.add(said)
                parts += [f"prompt of completion {number}", quoted(said, limit)]
        parts += [f"completion {number} ({turn.finish})", quoted(turn.text, limit)]
    for call in trajectory.tools:
        parts += [f"tool {inline(call.name)} -> {inline(str(call.result), 300)}"]
    parts += ["answer", quoted(trajectory.answer, limit)] if trajectory.answer is not None else ["no answer"]
    if trajectory.error:
        parts += [f"the scaffold ended with {trajectory.status}: {inline(trajectory.error, 400)}"]
    if verdict.feedback:
        parts += ["the verifier says", quoted(verdict.feedback, min(limit, 1000))]
    return "\n".join(parts)


def texts_of(trajectory: Trajectory, verdict: Verdict) -> Iterator[str]:
    """Yield every text of a rollout as it is: prompts, completions, tool calls, the answer, what was said of it."""
    for turn in trajectory.turns:
        yield from (message["content"] for message in turn.messages)
        yield turn.text
    for call in trajectory.tools:
        yield str(call.arguments)
        yield str(call.result)
    yield from (trajectory.answer or "", trajectory.error, verdict.feedback)


def plain_markdown(text: str) -> str:
    """Return a model's Markdown without what a page would fetch or follow: no HTML, image or link."""
    clean = re.sub(r"[^\n\t\x20-\x7e\u00a0-\ud7ff]", "?", text)
    return clean.replace("<", "&lt;").replace("![", "! [").replace("](", "] (").replace("]:", "] :")


def generation_line(generation: Generation) -> str:
    """Return one line on a generation: lever, scores, guards, whether it was kept."""
    decision = generation.decision
    pulled = decision.action if decision else "first"
    forecast = f", forecast {decision.forecast:+.4f}" if decision else ""
    gain = f", gain {generation.gain:+.4f} +- {generation.gain_se:.4f}" if decision else ""
    guards = "".join(f", guard {name} {margin:+.4f}" for name, margin in generation.guards.items())
    select, train = generation.select, generation.train
    scores = f"select {select.mean:.4f} +- {select.se:.4f}, train {train.mean:.4f}, valid {train.valid:.0%}"
    kept = "kept" if generation.accepted else "refused"
    return f"generation {generation.index}: {pulled}: {scores}{gain}{forecast}{guards}: {kept}"
