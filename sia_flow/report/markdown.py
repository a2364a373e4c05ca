"""Reports for people, as Markdown: one generation's decision, and the comparison of all arms.

Invariant: figures come from the records; every word that a model wrote passes through `report.text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sia_flow.lineage.goodhart import ALARM, closing, gap_of
from sia_flow.lineage.records import Decision, Generation, Score, Trial
from sia_flow.lineage.results import ArmResult
from sia_flow.report.comparison import compare
from sia_flow.report.published import Cited, beside, caveats
from sia_flow.report.spending import spending_table
from sia_flow.report.table import final_table
from sia_flow.report.text import fenced, plain, quoted


def decision_report(arm: str, generation: Generation, diff: str = "", first: Generation | None = None) -> str:
    """Return the report of a generation: what was decided and why, what came of it, what it cost.

    `first` is generation 0 of the arm, which the Goodhart gap counts from.
    """
    kept = "kept" if generation.accepted else "not kept"
    parts = [
        f"# {plain(arm)}, seed {generation.seed}, generation {generation.index}: {kept}",
        plain(generation.verdict),
        _decision(generation.decision, generation),
        _trials(generation.trials),
        _scores(generation),
        _goodhart(generation, first),
        _training(generation),
        f"## Scaffold diff\n\n{fenced(diff, 'diff')}" if diff else "",
        _lineage(generation),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_report(
    results: Sequence[ArmResult], treatment: str = "SIA-W+H", control: str = "SIA-H", cited: Cited | None = None
) -> str:
    """Return the closing table, with what is cited beside it, and what it says of two arms, on sealed and on select."""
    found = (compare(results, treatment, control, split) for split in ("sealed", "select"))
    words = [item.verdict for item in found if item] + [alarm for result in results for alarm in closing(result).alarms]
    said = "\n".join(f"- {plain(text)}" for text in words)
    lines = caveats(*cited) if cited else []
    agents = table(beside(final_table(results), cited[1] if cited else None))
    notes = "\n".join(plain(line) if index == 0 else f"- {plain(line.strip(' -'))}" for index, line in enumerate(lines))
    return "\n\n".join(part for part in (agents, notes, table(spending_table(results)), said) if part) + "\n"


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return rows of equal columns as a Markdown table; the first column is text, the others are figures."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, [":---", *["---:"] * (len(names) - 1)]]
    lines += [[plain(row[name]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _decision(decision: Decision | None, generation: Generation) -> str:
    if decision is None:
        return f"{generation.origin[0].upper()}{generation.origin[1:]}."
    lines = [f"## Decision: {decision.lever}", plain(decision.reason)]
    if decision.weights:
        plan = decision.weights
        lines.append(
            f"Weights: {plain(plan.algorithm)}, {plan.iterations} iterations, learning rate "
            f"{plan.learning_rate:g}, KL coefficient {plan.kl:g}. {plain(plan.reason)}".rstrip()
        )
    lines += [f"- {plain(edit.name)}: {plain(edit.summary)}" for edit in decision.edits]
    lines.append(f"Forecast gain {decision.forecast:+.4f}; outcome {generation.gain:+.4f} ± {generation.gain_se:.4f}.")
    if decision.report:
        lines.append(quoted(decision.report))
    return "\n\n".join(lines)


def _trials(trials: Sequence[Trial]) -> str:
    rows = [
        {
            "edit tried on train": trial.name,
            "mean": f"{trial.mean:.4f} ± {trial.se:.4f}",
            "rollouts": str(trial.n),
            "taken": "yes" if trial.chosen else "",
        }
        for trial in trials
    ]
    return f"## Edits tried\n\n{table(rows)}" if rows else ""


def _scores(generation: Generation) -> str:
    rows = [_score(generation.train), _score(generation.select)]
    guards = _listed(f"{plain(name)} {margin:+.4f}" for name, margin in generation.guards.items())
    reasons = _listed(f"{plain(name)} {count}" for name, count in sorted(generation.train.reasons.items()))
    lines = [f"## Scores\n\n{table(rows)}"]
    lines += [f"Guard margins on select: {guards}."] if guards else []
    lines += [f"Outcomes on train: {reasons}."] if reasons else []
    return "\n\n".join(lines)


def _goodhart(generation: Generation, first: Generation | None) -> str:
    if first is None or first.id == generation.id:
        return ""
    found = gap_of(first, generation)
    grown = f"Train - select {found.gap:+.4f}, grown by {found.growth:+.4f} ± {found.growth_se:.4f} since generation 0"
    lines = [f"## Goodhart gap\n\n{grown}; an alarm is raised beyond {ALARM:g} standard errors."]
    drift = _listed(f"{plain(name)} {change:+.4f}" for name, change in (*found.guards.items(), *found.truth.items()))
    lines += [f"Since generation 0: {drift}."] if drift else []
    return "\n\n".join([*lines, *(f"**Alarm**: {plain(alarm)}." for alarm in found.alarms)])


def _score(score: Score) -> dict[str, str]:
    return {
        "split": score.split,
        "mean ± SE": f"{score.mean:.4f} ± {score.se:.4f}",
        "best": f"{score.best:.4f}",
        "valid": f"{score.valid:.0%}",
        "rollouts": str(score.n),
    }


def _training(generation: Generation) -> str:
    if not generation.training:
        return ""
    first, last = generation.training[0], generation.training[-1]
    rows = [
        {"metric": name, "first": f"{first[name]:.4g}", "last": f"{last.get(name, first[name]):.4g}"} for name in first
    ]
    return f"## Training, {len(generation.training)} iterations\n\n{table(rows)}"


def _lineage(generation: Generation) -> str:
    isolation, spend = generation.isolation, generation.spend
    rows = [
        ("generation", generation.id[:16]),
        ("parent", (generation.parent or "none")[:16]),
        ("scaffold", generation.scaffold[:16]),
        ("adapter", (generation.adapter or "none")[:16]),
        ("base", generation.base[:16]),
        ("data", generation.data[:16]),
        ("verifier", generation.verifier[:16]),
        ("isolation", isolation.words),
        (
            "spend",
            ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in spend if value) or "none",
        ),
    ]
    return "## Lineage\n\n" + table([{"what": name, "value": value} for name, value in rows])


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items)
