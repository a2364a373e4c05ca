"""`sia-flow show`: one run with its generations, or one generation with its decision, scores and digests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.cli.lookup import AsJson, Directory

if TYPE_CHECKING:
    from sia_flow.lineage.heads import Head
    from sia_flow.lineage.records import Generation
    from sia_flow.lineage.references import Found
    from sia_flow.lineage.store import Store


def command(
    name: Annotated[str, typer.Argument(metavar="RUN[@GEN]", help="denoise/SIA-H/seed-0@3, or an id's first digits.")],
    *,
    answers: Annotated[int, typer.Option("--answers", min=0, help="Also show this many answers, best first.")] = 0,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Show a run, or with @GEN a generation: what was decided and why, what came of it, what it is made of.

    A generation is named by its number, @best (the incumbent) or @last. Abbreviate as far as it stays clear:
    `denoise/SIA-H` where there is one seed. The path that `runs/` shows works too.

    Examples: sia-flow show denoise/SIA-H; sia-flow show denoise/SIA-W+H/seed-0@best --answers 1
    """
    from sia_flow.cli.lookup import open_store
    from sia_flow.lineage.references import find

    _, store = open_store(directory)
    found = find(store, name)
    if as_json:
        typer.echo(json.dumps(_json(store, found, answers)))
    elif found.generation is not None:
        _show_generation(store, found, found.generation, answers)
    elif found.head is not None:
        _show_run(store, found.head)


def _json(store: Store, found: Found, answers: int) -> dict[str, Any]:
    if found.generation is not None:
        run = found.head.name if found.head else None
        best = [{"reward": reward, "text": text} for reward, text in best_answers(store, found.generation, answers)]
        return {"run": run, "generation": found.generation.model_dump(mode="json"), "answers": best}
    assert found.head is not None
    result = store.arm(found.head.result) if found.head.result else None
    return {"run": found.head.model_dump(mode="json"), "result": result.model_dump(mode="json") if result else None}


def _show_run(store: Store, head: Head) -> None:
    from sia_flow.cli.render import generation_line

    _say(f"{head.name}: {len(head.generations)} generations")
    for generation_id in head.generations:
        _say("  " + generation_line(head.arm, store.generation(generation_id)))
    result = store.arm(head.result) if head.result else None
    if result is None:
        _say("not finished")
        return
    _say(f"ended: {result.stopped}; incumbent {result.incumbent[:12]}")
    _say(f"sealed {result.sealed.mean:.4f} +- {result.sealed.se:.4f}, valid {result.sealed.valid:.0%}")
    if result.best is not None:
        sealed, select = result.best.sealed.mean, result.best.select.mean
        _say(f"best program: select {select:.4f}, sealed {sealed:.4f} (object {result.best.answer})")
    for cell in result.factorial:
        _say(f"2x2: {cell.scaffold} scaffold, {cell.weights} weights: {cell.score.mean:.4f} +- {cell.score.se:.4f}")
    spend = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in result.spend if value)
    _say(f"spend: {spend or 'nothing'}")


def _show_generation(store: Store, found: Found, generation: Generation, answers: int) -> None:
    from sia_flow.report.markdown import decision_report

    _say(f"{found.label}  {generation.id}")
    arm = found.head.arm if found.head else "generation"
    report = decision_report(arm, generation, scaffold_diff(store, generation), store.first(generation))
    _say(report)
    for reward, text in best_answers(store, generation, answers):
        _say(f"--- answer with reward {reward:.4f}\n{text}")


def scaffold_diff(store: Store, generation: Generation) -> str:
    """Return the diff of a generation's scaffold against its parent's, empty for the first."""
    from sia_flow.scaffold.diff import unified_diff

    if generation.parent is None:
        return ""
    parent = store.generation(generation.parent)
    if parent.scaffold == generation.scaffold:
        return ""
    return unified_diff(store.objects.get_sources(parent.scaffold), store.objects.get_sources(generation.scaffold))


def best_answers(store: Store, generation: Generation, count: int) -> list[tuple[float, str]]:
    """Return the best distinct answers of a generation on train, best first."""
    from sia_flow.lineage.jsonl import load_lines
    from sia_flow.lineage.records import Trajectory, Verdict

    verify = store.find(generation.steps["verify train"]) if count else None
    if verify is None:
        return []
    verdicts = load_lines(store.objects.get_bytes(verify.outputs["verdicts"]), Verdict)
    trajectories = load_lines(store.objects.get_bytes(generation.trajectories), Trajectory)
    best: dict[str, float] = {}
    for trajectory, verdict in zip(trajectories, verdicts, strict=True):
        if verdict.valid and trajectory.answer is not None:
            best[trajectory.answer] = max(verdict.reward, best.get(trajectory.answer, verdict.reward))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:count]
    return [(reward, text) for text, reward in ranked]


def _say(text: str) -> None:
    from html import unescape

    from sia_flow.cli.text import printable

    # Reports are Markdown, with entities for what a page might take for its own.
    typer.echo(printable(unescape(text)))
