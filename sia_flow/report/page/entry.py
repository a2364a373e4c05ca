"""One generation on the page: its decision with forecast and outcome, scores, diff, trajectories, digests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sia_flow.lineage.records import Decision, Generation, Score, Trajectory
from sia_flow.report.page.chart import Line, Point, chart
from sia_flow.report.page.markup import Content, Html, join, pre, table, tag, text
from sia_flow.report.page.source import Run, Shown, Source

REASON, REPORT = 1500, 6000
CURVES = ("reward_mean", "kl_base", "entropy")
SMALLEST, LARGEST = 300, 6000


def entry(source: Source, run: Run, generation: Generation, allowance: int) -> Html:
    """Return a generation as a section that opens; `allowance` is about how many characters it may take."""
    kept = tag(
        "span", "kept" if generation.accepted else "not kept", class_="kept" if generation.accepted else "dropped"
    )
    node = run.nodes[generation.index]
    score = f"select {generation.select.mean:.4f} ± {generation.select.se:.4f}"
    summary = tag("summary", f"@{generation.index} {node.action}: {score}, ", kept)
    size = max(SMALLEST, min(LARGEST, allowance // 8))
    body = [
        tag("p", text(generation.verdict, REASON)),
        _decision(generation.decision, generation, size),
        _scores(generation),
        _trials(generation),
        _training(generation),
        _diff(source.diff(generation), 2 * size),
        _trajectories(source.trajectories(generation, 4), size),
        _digests(run, generation),
    ]
    anchor, mark = run.anchor(generation.index), "yes" if generation.accepted else "no"
    return tag("details", summary, *body, id=anchor, class_="generation", data_kept=mark)


def _decision(decision: Decision | None, generation: Generation, size: int) -> Html:
    if decision is None:
        return tag("p", f"{generation.origin[0].upper()}{generation.origin[1:]}.")
    rows = [("why", text(decision.reason, REASON))]
    if decision.weights is not None:
        plan = decision.weights
        rows.append(
            (
                "plan",
                text(f"{plan.algorithm}, {plan.iterations} iterations, rate {plan.learning_rate:g}, KL {plan.kl:g}"),
            )
        )
    rows += [("edit", text(f"{edit.name}: {edit.summary}", REASON)) for edit in decision.edits[:6]]
    outcome = f"{generation.gain:+.4f} ± {generation.gain_se:.4f}"
    rows += [("forecast gain", text(f"{decision.forecast:+.4f}")), ("outcome", text(outcome))]
    listed = tag("dl", *(Html(tag("dt", name) + tag("dd", value)) for name, value in rows))
    parts = [tag("h4", f"Decision: {decision.lever}"), listed]
    if decision.report:
        shown = pre(decision.report, min(REPORT, 2 * size), "words")
        parts.append(tag("details", tag("summary", "The Feedback-Agent's report"), shown))
    return join(parts)


def _scores(generation: Generation) -> Html:
    rows = [_score(score) for score in (generation.train, generation.select)]
    guards = ", ".join(f"{name} {margin:+.4f}" for name, margin in generation.guards.items())
    broken = any(margin < 0 for margin in generation.guards.values())
    line = tag("p", f"Guard margins on select: {guards}", class_="broken" if broken else None) if guards else Html("")
    return join([table("Scores", rows), line, _reasons(generation.train)])


def _score(score: Score) -> dict[str, Content]:
    return {
        "split": score.split,
        "mean": f"{score.mean:.4f} ± {score.se:.4f}",
        "best": f"{score.best:.4f}",
        "valid": f"{score.valid:.0%}",
        "rollouts": str(score.n),
    }


def _reasons(score: Score) -> Html:
    counts = ", ".join(
        f"{reason} {count}" for reason, count in sorted(score.reasons.items(), key=lambda item: -item[1])
    )
    return tag("p", f"Outcomes on train: {counts}.") if counts else Html("")


def _trials(generation: Generation) -> Html:
    rows: list[dict[str, Content]] = [
        {
            "edit tried on train": text(t.name, 200),
            "mean": f"{t.mean:.4f} ± {t.se:.4f}",
            "taken": "yes" if t.chosen else "",
        }
        for t in generation.trials
    ]
    return table("Edits tried", rows)


def _training(generation: Generation) -> Html:
    """Return the curves of a weight update, thinned to some hundred points."""
    steps = generation.training
    shown = [name for name in CURVES if any(name in step for step in steps)]
    every = max(1, len(steps) // 120)
    drawn = []
    for name in shown[: 1 if len(steps) > 400 else 2]:
        points = [Point(i, step[name]) for i, step in enumerate(steps) if name in step and i % every == 0]
        drawn.append(chart(f"Training: {name}", "iteration", name, [Line(name, points)]))
    return join(drawn)


def _diff(diff: str, limit: int) -> Html:
    if not diff:
        return Html("")
    lines = (text(diff, limit)).split("\n")
    marked = (
        tag("span", Html(line), class_=_CLASS.get(line[:1])) if line[:1] in _CLASS else Html(line) for line in lines
    )
    shown = tag("pre", tag("code", join(marked, "\n")), tabindex="0")
    return join([tag("h4", "Scaffold diff"), shown])


_CLASS = {"+": "add", "-": "del", "@": "at"}


def _trajectories(found: Sequence[Shown], size: int) -> Html:
    if not found:
        return Html("")
    return join([tag("h4", "Trajectories, by outcome"), *(_trajectory(shown, size) for shown in found)])


def _trajectory(shown: Shown, size: int) -> Html:
    trajectory, verdict = shown.trajectory, shown.verdict
    head = f"{shown.why}: reward {verdict.reward:.4f}, {trajectory.instance} sample {trajectory.sample}"
    parts = list(_steps(trajectory, size))
    if verdict.feedback:
        parts.append(tag("p", text(f"Verifier: {verdict.feedback}", size)))
    if trajectory.error:
        parts.append(tag("p", text(f"{trajectory.status}: {trajectory.error}", size)))
    parts += [tag("p", "Answer:"), pre(trajectory.answer, size)] if trajectory.answer else [tag("p", "No answer.")]
    return tag("details", tag("summary", head), *parts)


def _steps(trajectory: Trajectory, size: int) -> Iterator[Html]:
    if trajectory.turns:
        first = trajectory.turns[0]
        asked = first.messages[-1].get("content", "") if first.messages else ""
        yield tag("p", f"{len(trajectory.turns)} completions, {len(trajectory.tools)} tool calls. Asked:")
        yield pre(asked, size // 2, "words")
        if trajectory.answer is None:
            yield tag("p", "Sampled:")
            yield pre(trajectory.turns[-1].text, size)


def _digests(run: Run, generation: Generation) -> Html:
    spend = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in generation.spend if value) or "nothing"
    own = {name: getattr(generation, name) or "none" for name in ("id", "parent", "scaffold", "adapter")}
    isolation = generation.isolation.words
    rows = {"name": f"{run.head.name}@{generation.index}", **own, "isolation": isolation, "spend": spend}
    listed = tag("dl", *(Html(tag("dt", name) + tag("dd", value, class_="digest")) for name, value in rows.items()))
    return tag("details", tag("summary", "What it is made of"), listed)
