"""The improvement report: what the evidence says and what is done about it, in Markdown of bounded size.

Invariant: text that a model wrote stands in fences that it cannot close, cut to length and free of control
characters; the report never holds more than `LIMIT` characters.
"""

from __future__ import annotations

import re

from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import Failure, Statistics
from sia_flow.lineage.records import Decision, Generation
from sia_flow.scaffold.constants import constant_values
from sia_flow.scaffold.contract import MAIN

LIMIT = 12_000
QUOTE = 800
FAILURES = 5
BAR = 30
ROWS = 12


def improvement_report(evidence: Evidence, rewards: Statistics, decision: Decision) -> str:
    """Return the report of a decision. Raises ScaffoldError for a malformed block of constants."""
    sections = [
        f"# Improvement report after generation {evidence.generation.index}",
        _decided(decision),
        _rewards(rewards),
        _failures(rewards),
        _history(evidence),
        _constants(evidence),
        _best(evidence),
    ]
    text = "\n\n".join(section for section in sections if section)
    return text if len(text) <= LIMIT else text[: LIMIT - 20].rsplit("\n", 1)[0] + "\n\n(cut to length)"


def quoted(text: str, limit: int = QUOTE) -> str:
    """Return untrusted text as a fenced block that it cannot close."""
    clean = re.sub(r"[^\n\t\x20-\x7e\u00a0-\ud7ff]", "?", text.strip("\n"))
    clean = clean if len(clean) <= limit else clean[:limit] + "\n..."
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", clean)), default=0))
    return f"{fence}\n{clean}\n{fence}"


def inline(text: str, limit: int = 60) -> str:
    """Return untrusted text as one line that is safe in a list or a table cell."""
    return re.sub(r"[^\w .,:+=>()/-]", "?", text.replace("\n", " "))[:limit]


def _decided(decision: Decision) -> str:
    lines = [f"## Decision: {decision.lever}", "", decision.reason]
    if decision.edits:
        lines += ["", *(f"- {inline(edit.name, 200)}" for edit in decision.edits)]
    if decision.weights:
        plan = decision.weights
        rate = f"learning rate {plan.learning_rate:g}, KL {plan.kl:g}"
        lines += ["", f"- {plan.algorithm}, {plan.iterations} iterations, {rate}"]
    return "\n".join(lines)


def _rewards(rewards: Statistics) -> str:
    figures = {
        "mean": f"{rewards.mean:.4f}",
        "deviation": f"{rewards.sd:.4f}",
        "deviation within an instance": f"{rewards.spread:.4f}",
        "upper decile": f"{rewards.upper:.4f}",
        "best": f"{rewards.best:.4f}",
        "skew": f"{rewards.skew:+.2f}",
        "valid": f"{rewards.valid:.0%}",
        "above a failure's reward": f"{rewards.density:.0%}",
        "instances without spread": f"{rewards.dead:.0%}",
    }
    listed = ", ".join(f"{name} {figure}" for name, figure in figures.items())
    head = ["## Rewards of the incumbent on train", "", f"{rewards.n} rollouts: {listed}.", "", "```"]
    most = max((count for _, count in rewards.histogram), default=0) or 1
    bars = [f"{edge:8.4f} {'#' * round(BAR * count / most):{BAR}} {count}" for edge, count in rewards.histogram]
    return "\n".join([*head, *(bar.rstrip() for bar in bars), "```"])


def _failures(rewards: Statistics) -> str:
    if not rewards.failures:
        return ""
    shown = [_failure(failure) for failure in rewards.failures[:FAILURES]]
    return "\n\n".join(["## Failures on train", *shown])


def _failure(failure: Failure) -> str:
    said = f": {inline(failure.feedback, 200)}" if failure.feedback else ""
    return f"**{inline(failure.reason)}**, {failure.count} rollouts{said}\n\n{quoted(failure.answer)}"


def _history(evidence: Evidence) -> str:
    head = [
        "## Generations",
        "",
        "| generation | lever | select | gain | kept | forecast |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(_row(generation) for generation in evidence.history[-ROWS:])])


def _row(generation: Generation) -> str:
    decision = generation.decision
    lever, forecast = (decision.lever, f"{decision.forecast:+.4f}") if decision else ("first", "")
    select = f"{generation.select.mean:.4f} ± {generation.select.se:.4f}"
    gain = f"{generation.gain:+.4f} ± {generation.gain_se:.4f}" if decision else ""
    kept = "yes" if generation.accepted else "no"
    return f"| {generation.index} | {lever} | {select} | {gain} | {kept} | {forecast} |"


def _constants(evidence: Evidence) -> str:
    values = constant_values(evidence.scaffold[MAIN])
    if not values:
        return ""
    listed = ", ".join(f"{inline(name)} {inline(str(value))}" for name, value in values.items())
    return f"## Constants of the incumbent\n\n{listed}"


def _best(evidence: Evidence) -> str:
    return f"## Best program on train\n\n{quoted(evidence.best_program)}" if evidence.best_program else ""
