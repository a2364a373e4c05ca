"""`sia-flow status`: how far the runs are, from a few records and the end of a log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.cli.lookup import AsJson, Directory
from sia_flow.cli.spend import spend_by_role, spend_lines

if TYPE_CHECKING:
    from sia_flow.cli.lookup import Now
    from sia_flow.lineage.approvals import Question
    from sia_flow.lineage.heads import Head
    from sia_flow.lineage.records import Generation
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project


def command(
    what: Annotated[str | None, typer.Argument(metavar="[SPEC|NAME]", help="Nothing: every experiment.")] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every 2 s, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Show each run: is it running, how far is it, its incumbent, its last generation.

    It reads records only, so it may be called at any time, also while another process runs the experiment; what would
    still run is `sia-flow plan SPEC`.

    Examples: sia-flow status; sia-flow status denoise --watch; sia-flow status specs/denoise.yaml --json
    """
    from sia_flow.cli.lookup import open_store

    project, store = open_store(directory or (Path(what) if what and Path(what).is_file() else None))
    if watch and not as_json:
        _watch(project, store, what)
        return
    states = _states(project, store, what)
    if as_json:
        typer.echo(json.dumps({"experiments": states}))
    else:
        for line in _lines(states):
            typer.echo(line)


def _watch(project: Project, store: Store, what: str | None) -> None:
    import time

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def shown() -> Text:
        return Text("\n".join(_lines(_states(project, store, what))))

    console = Console()
    with Live(shown(), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(2.0)
            live.update(shown(), refresh=True)


def _states(project: Project, store: Store, what: str | None) -> list[dict[str, Any]]:
    from sia_flow.cli.lookup import experiment_name, now, of_experiment
    from sia_flow.lineage.approvals import approvals_of
    from sia_flow.lineage.heads import heads
    from sia_flow.loop.eventlog import log_path

    chosen = experiment_name(what) if what else None
    found = heads(store, chosen)
    logged = [path.stem for path in sorted(log_path(project.state, "x").parent.glob("*.jsonl"))]
    # An experiment that was stopped before its first generation has a log and no head.
    names = dict.fromkeys([*(head.experiment for head in found), *(n for n in logged if chosen in (None, n))])
    if chosen and not names:
        of_experiment(store, chosen)
    states = []
    for name in names:
        own = [head for head in found if head.experiment == name]
        doing = now(project, name)
        runs = [_run(store, head) for head in own]
        spend = spend_by_role(project.state, name)
        asked = approvals_of(project.state, name).waiting()
        waits = [_waiting(question, doing.pid) for question in asked if not _overtaken(question, own)]
        missing = _missing(own)
        states.append(
            {"experiment": name, **_doing(doing), "runs": runs, "missing": missing, "waits": waits, "spend": spend}
        )
    return states


def _overtaken(question: Question, own: Sequence[Head]) -> bool:
    """Say whether an arm has gone on without an answer, its gate being gone."""
    made = ((h.arm, h.seed, len(h.generations)) for h in own)
    return any((arm, seed) == (question.arm, question.seed) and count > question.index for arm, seed, count in made)


def _waiting(question: Question, pid: int | None) -> dict[str, Any]:
    kept = ("arm", "seed", "index", "action", "reason", "why", "at", "by")
    return {name: getattr(question, name) for name in kept} | {"now": question.pid == pid}


def _doing(doing: Now) -> dict[str, Any]:
    state = "running" if doing.pid is not None else (doing.ended or "idle")
    return {"state": state, "pid": doing.pid, "text": doing.text}


def _run(store: Store, head: Head) -> dict[str, Any]:
    last = store.generation(head.generations[-1]) if head.generations else None
    best = _incumbent(store, head)
    result = store.arm(head.result) if head.result else None
    return {
        "run": head.name,
        "arm": head.arm,
        "seed": head.seed,
        "done": result is not None,
        "stopped": result.stopped if result else None,
        "sealed": result.sealed.mean if result else None,
        "generations": len(head.generations),
        "incumbent": _scores(best),
        "last": _scores(last),
    }


def _incumbent(store: Store, head: Head) -> Generation | None:
    for generation_id in reversed(head.generations):
        generation = store.generation(generation_id)
        if generation.accepted:
            return generation
    return None


def _scores(generation: Generation | None) -> dict[str, Any] | None:
    if generation is None:
        return None
    decision = generation.decision
    return {
        "id": generation.id,
        "index": generation.index,
        "action": decision.action if decision else "first",
        "accepted": generation.accepted,
        "select": generation.select.mean,
        "select_se": generation.select.se,
        "valid": generation.train.valid,
        "verdict": generation.verdict,
    }


def _missing(own: Sequence[Head]) -> list[str]:
    """Return the arms and seeds that the spec asks for and that have not begun."""
    spec = next((head.spec for head in own if head.spec), None)
    if spec is None:
        return []
    begun = {(head.arm, head.seed) for head in own}
    wanted = [(arm["name"], seed) for seed in spec["spec"]["seeds"] for arm in spec["spec"]["arms"]]
    return [f"{arm} seed {seed}" for arm, seed in wanted if (arm, seed) not in begun]


def _lines(states: Sequence[dict[str, Any]]) -> list[str]:
    from sia_flow.cli.text import printable

    lines = []
    for state in states:
        process = f" (process {state['pid']})" if state["pid"] else ""
        text = f": {state['text']}" if state["text"] else ""
        lines.append(f"{state['experiment']}: {state['state']}{process}{text}")
        lines += [_run_line(run) for run in state["runs"]]
        lines += [f"  {name}: not begun" for name in state["missing"]]
        lines += [_wait_line(state["experiment"], wait) for wait in state["waits"]]
        lines += spend_lines(state["spend"])
    return [printable(line) for line in lines] or ["nothing was applied yet"]


def _wait_line(name: str, wait: dict[str, Any]) -> str:
    answer = f"sia-flow approve {name} --arm {wait['arm']} --seed {wait['seed']} [--no]"
    later = "" if wait["now"] else f"; the run that asked has ended: answer, then sia-flow resume {name}"
    where = f"{wait['arm']} seed {wait['seed']} gen {wait['index']}"
    return f"  {where} waits for a yes: {wait['action']} ({wait['why']}): {answer}{later}"


def _run_line(run: dict[str, Any]) -> str:
    count = run["generations"]
    how = f"done ({run['stopped']}), sealed {run['sealed']:.4f}" if run["done"] else "not done"
    parts = [f"{run['arm']} seed {run['seed']}: {count} generation{'' if count == 1 else 's'}, {how}"]
    best, last = run["incumbent"], run["last"]
    if best:
        parts.append(f"incumbent @{best['index']} select {best['select']:.4f} +- {best['select_se']:.4f}")
    if last and best and last["index"] != best["index"]:
        parts.append(f"last @{last['index']} {last['action']} {last['select']:.4f}, not kept")
    return "  " + "; ".join(parts)
