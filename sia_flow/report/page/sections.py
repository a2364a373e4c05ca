"""The sections of the page that speak of the whole experiment: verdict, scores, gap, decisions, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from sia_flow.report.comparison import compare
from sia_flow.report.network import network_notice, network_of
from sia_flow.report.page import curves
from sia_flow.report.page.graph import lineage
from sia_flow.report.page.markup import Content, Html, join, pre, table, tag, text
from sia_flow.report.page.source import Node, Source
from sia_flow.report.published import beside, caveats
from sia_flow.report.spending import spending_table
from sia_flow.report.table import final_table

PAIRS = 6


def section(anchor: str, title: str, *parts: Content) -> Html:
    """Return a section with its heading."""
    return tag("section", tag("h2", title, id=anchor), *parts, aria_labelledby=anchor)


def verdict(source: Source) -> Html:
    """Return what the comparison of the arms says, and the closing table."""
    results = source.results
    said = [tag("p", words, class_="verdict") for words in verdicts(source)]
    left = [run.title for run in source.runs if run.result is None]
    if left:
        said.append(tag("p", f"Not finished, so not compared: {', '.join(left)}."))
    if not results:
        return section("verdict", "Verdict", *said)
    theirs = source.cited[1] if source.cited else None
    rows: list[dict[str, Content]] = [dict(row) for row in beside(final_table(results), theirs)]
    note = "± is one standard error: over seeds where there are two or more, else over the rollouts of the one seed."
    return section(
        "verdict", "Verdict", *said, table("All agents", rows), tag("p", note), _cited(source), _factorial(source)
    )


def _cited(source: Source) -> Html:
    """Return what the published column is, and what about it does not compare."""
    if source.cited is None:
        return join([])
    first, *rest = caveats(*source.cited)
    return join([tag("p", first), tag("ul", *(tag("li", line.strip(" -")) for line in rest))])


def verdicts(source: Source) -> list[str]:
    """Return the comparison of each pair of arms, on sealed where that was read, the first pairs only."""
    arms = list(dict.fromkeys(run.head.arm for run in source.runs if run.head.control is None))
    words = []
    for control, treatment in list(combinations(arms, 2))[:PAIRS]:
        found = compare(source.results, treatment, control, "sealed")
        if found:
            words.append(found.verdict)
    return words or ["There is one arm, or none is finished: nothing to compare yet."]


def _factorial(source: Source) -> Html:
    cells: dict[tuple[str, str, str], list[float]] = {}
    for result in source.results:
        for cell in result.factorial:
            cells.setdefault((result.arm, cell.scaffold, cell.weights), []).append(cell.score.mean)
    rows: list[dict[str, Content]] = [
        {
            "arm": arm,
            "scaffold": scaffold,
            "weights": weights,
            "select": f"{fmean(means):.4f}",
            "seeds": str(len(means)),
        }
        for (arm, scaffold, weights), means in cells.items()
    ]
    return table("What each lever is worth: the 2x2 of {first, best scaffold} x {base, best adapter}", rows)


def scores(source: Source) -> Html:
    """Return score over generations and over spend, with the spend of each run."""
    return section(
        "scores",
        "Score over generations and over spend",
        curves.score_over_generations(source),
        curves.score_over_spend(source),
        table("Score against spend, means over seeds", [dict(row) for row in spending_table(source.results)]),
        table("Spend of each run", [_spend(run.title, run.nodes, run.result) for run in source.runs if run.nodes]),
    )


def _spend(title: str, nodes: Sequence[Node], result: object) -> dict[str, Content]:
    from sia_flow.lineage.results import ArmResult

    spend = result.spend if isinstance(result, ArmResult) else None
    return {
        "run": title,
        "generations": str(len(nodes)),
        "rollouts": f"{spend.rollouts if spend else sum(node.rollouts for node in nodes):,}",
        "tokens": f"{spend.prompt_tokens + spend.completion_tokens if spend else sum(n.tokens for n in nodes):,}",
        "programs scored": f"{spend.verifications:,}" if spend else "-",
        "optimizer steps": f"{spend.updates:,}" if spend else "-",
        "US dollars": f"{spend.usd:.2f}" if spend else "-",
    }


def graph(source: Source) -> Html:
    """Return the lineage graph."""
    hint = tag("p", "Follow a mark to its generation below.", class_="noprint")
    return section("lineage", "Lineage", hint, lineage(source))


def gap(source: Source) -> Html:
    """Return the Goodhart gap: what the score gains that nothing else does."""
    words = (
        "A score that rises while its guard falls, while train runs ahead of select, or while select runs ahead of "
        "sealed, is being gamed or overfitted rather than earned. Sealed was read once, when an arm was done."
    )
    rows: list[dict[str, Content]] = []
    for run in source.runs:
        result = run.result
        if result is None:
            continue
        best = result.best
        guard = min(result.guards.values(), default=None)
        rows.append(
            {
                "run": run.title,
                "select": f"{result.select.mean:.4f}",
                "sealed": f"{result.sealed.mean:.4f}",
                "select - sealed": f"{result.select.mean - result.sealed.mean:+.4f}",
                "best program: train": f"{best.train:.4f}" if best else "-",
                "its sealed": f"{best.sealed.mean:.4f}" if best else "-",
                "guard on sealed": "-" if guard is None else f"{guard:+.4f}{' broken' if guard < 0 else ''}",
            }
        )
    charts = [curves.gap_over_generations(source), curves.guard_over_generations(source)]
    charts += curves.truth_over_generations(source)
    return section("gap", "Goodhart gap", tag("p", words), table("Selected against sealed", rows), *charts)


def calibration(source: Source) -> Html:
    """Return what each kind of pull was expected to gain and what it gained."""
    pulls: dict[str, list[Node]] = {}
    for run in source.runs:
        for node in run.nodes:
            if node.forecast is not None:
                pulls.setdefault(node.action, []).append(node)
    rows: list[dict[str, Content]] = [
        {
            "pull": action,
            "times": str(len(nodes)),
            "kept": str(sum(node.kept for node in nodes)),
            "mean forecast": f"{fmean(node.forecast or 0.0 for node in nodes):+.4f}",
            "mean outcome": f"{fmean(node.gain for node in nodes):+.4f}",
        }
        for action, nodes in sorted(pulls.items())
    ]
    return table("Forecast and outcome by kind of pull, gains on select", rows)


def provenance(source: Source) -> Html:
    """Return digests, versions, isolation and the resolved spec: what is needed to make it again."""
    head = next((run.head for run in source.runs if run.head.spec), source.runs[0].head)
    digests = dict(head.inputs) or _of_generation(source)
    facts = {**{f"{name} digest": value for name, value in digests.items()}, **dict(head.versions)}
    listed = tag("dl", *(Html(tag("dt", name) + tag("dd", value, class_="digest")) for name, value in facts.items()))
    parts: list[Content] = [
        listed,
        tag("p", "Make a run again, digest by digest: ", tag("code", f"sia-flow reproduce {head.name}")),
    ]
    if head.spec:
        shown = pre(json.dumps(head.spec, indent=2), 200_000)
        parts.append(tag("details", tag("summary", "The resolved spec"), shown))
    return section("provenance", "Provenance", *parts)


def _of_generation(source: Source) -> dict[str, str]:
    run = next((run for run in source.runs if run.head.generations), None)
    if run is None:
        return {}
    generation = source.store.generation(run.head.generations[0])
    return {"data": generation.data, "verifier": generation.verifier, "base": generation.base}


def header(source: Source) -> Html:
    """Return the title, what the experiment is for, and the way to the sections."""
    head = next((run.head for run in source.runs if run.head.spec), source.runs[0].head)
    metadata = head.spec.get("metadata", {}) if head.spec else {}
    task = head.spec.get("spec", {}).get("task", {}) if head.spec else {}
    about = [tag("p", text(metadata["description"]))] if metadata.get("description") else []
    if task:
        mode = f", mode {task['mode']}" if task.get("mode") else ""
        about.append(tag("p", f"Task {task['name']}{mode}; {len(source.runs)} runs."))
    notice = network_notice(network_of(head.spec or {}))
    about += [tag("p", notice, class_="verdict")] if notice else []
    places = ("verdict", "scores", "lineage", "gap", "decisions", "provenance")
    links = [tag("li", tag("a", place.capitalize(), href=f"#{place}")) for place in places]
    nav = tag("nav", tag("ul", *links), aria_label="Sections")
    return join([tag("h1", f"Experiment {head.experiment}"), *about, nav])
