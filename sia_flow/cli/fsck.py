"""`sia-flow fsck`: check every digest and link of the store and of what was laid out from it, and mend what can be.

Invariant: without `--repair` nothing is written; with it nothing is deleted but what a killed writer left over.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.cli.lookup import AsJson, Directory
from sia_flow.cli.text import printable

if TYPE_CHECKING:
    from sia_flow.lineage.check import Fault, Findings
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project


def command(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Check the store: every object's digest, every record's key and seal, every link, the files laid out from it, and
    the base models that runs were made on. Exit code 1 where something is broken.

    With --repair leftovers of killed writers go, broken files are moved to .sia-flow/store/aside/, heads are cut to
    what is there, views are written anew; the next apply makes again what is missing. That takes the locks of all
    experiments, and is refused while one of them runs (exit code 5).

    Examples: sia-flow fsck; sia-flow fsck --repair; sia-flow fsck --json
    """
    from sia_flow.cli.lookup import open_store
    from sia_flow.lineage.check import check_store
    from sia_flow.lineage.repair import mend

    project, store = open_store(directory)
    with ExitStack() as stack:
        if repair:
            _lock_all(project, stack)
        found = check_store(store)
        faults = [fault for fault in found.faults if repair or not _in_use(project, fault)]
        left: Sequence[Fault] = mend(store, faults) if repair else faults
        beside = _beside(project, store, left, repair=repair)
    report = _report(found, faults, left, beside, repaired=repair)
    _show(report, as_json=as_json)
    raise typer.Exit(0 if report["sound"] else 1)


def _lock_all(project: Project, stack: ExitStack) -> None:
    from sia_flow.lineage.locks import experiment_lock

    for path in sorted(project.locks.glob("*.lock")):
        stack.enter_context(experiment_lock(project.locks, path.stem))


def _in_use(project: Project, fault: Fault) -> bool:
    """Say whether a leftover may be a file that a running experiment is writing at this moment."""
    from sia_flow.lineage.locks import holder

    running = any(holder(project.locks, path.stem) for path in project.locks.glob("*.lock"))
    return fault.remedy == "remove" and running


def _beside(project: Project, store: Store, left: Sequence[Fault], *, repair: bool) -> list[dict[str, Any]]:
    """Return what is wrong beside the store, each with whether it was mended; nothing while the store is broken."""
    if left:
        return []
    from sia_flow.lineage.heads import heads
    from sia_flow.loop.laidout import changed_adapters, changed_files, lay_out
    from sia_flow.loop.view import FolderView

    found: list[dict[str, Any]] = []
    for head in heads(store):
        view = FolderView(store, project.runs, project.checkpoints, head.experiment)
        changed = changed_files(store, view, head)
        found += [_entry(project, path, "not what the store holds", mended=repair) for path in changed]
        if repair:
            lay_out(store, view, head)
    for folder in changed_adapters(store, project.state / "adapters"):
        found.append(_entry(project, folder, "a laid-out adapter that is not what the store holds", mended=repair))
        if repair:
            shutil.rmtree(folder)
    return found + _bases(project, store)


def _bases(project: Project, store: Store) -> list[dict[str, Any]]:
    from sia_flow.errors import SpecError
    from sia_flow.loop.same_base import used_bases
    from sia_flow.policy.bases import base_digest, resolve_base

    found = []
    for head, name, used in used_bases(store):
        try:
            folder = resolve_base(name, project.models)
        except SpecError:
            continue
        if (now := base_digest(folder)) != used:
            words = f"not the base model that {head.name} ran on ({used[:12]}, now {now[:12]}): put the old one back"
            found.append(_entry(project, folder, words, mended=False))
    return found


def _entry(project: Project, path: Path, what: str, *, mended: bool) -> dict[str, Any]:
    inside = path.is_relative_to(project.root)
    shown = path.relative_to(project.root) if inside else path
    return {"path": str(shown), "what": what, "remedy": "write anew" if mended else "none", "mended": mended}


def _report(
    found: Findings,
    faults: Sequence[Fault],
    left: Sequence[Fault],
    beside: list[dict[str, Any]],
    *,
    repaired: bool,
) -> dict[str, Any]:
    still = {fault.path for fault in left}
    entries = [
        {"path": f.path, "what": f.what, "remedy": f.remedy, "mended": repaired and f.path not in still} for f in faults
    ]
    known = {fault.path for fault in faults}
    entries += [
        {"path": f.path, "what": f.what, "remedy": f.remedy, "mended": False} for f in left if f.path not in known
    ]
    entries += beside
    return {
        "sound": all(entry["mended"] for entry in entries),
        "checked": found.counts,
        "unsealed": found.unsealed,
        "faults": entries,
    }


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report))
        return
    for entry in report["faults"]:
        state = "mended" if entry["mended"] else "BROKEN"
        typer.echo(printable(f"{state}  {entry['path']}: {entry['what']}"))
    checked = ", ".join(f"{count} {kind}" for kind, count in report["checked"].items())
    typer.echo(f"checked {checked}")
    if report["unsealed"]:
        typer.echo(f"{report['unsealed']} records are from before seals were kept: their bytes were not checked")
    if any(entry["mended"] for entry in report["faults"]):
        typer.echo("run `sia-flow apply` on the specs again: it makes what is missing")
    elif report["faults"]:
        typer.echo("`sia-flow fsck --repair` mends what can be mended, and sets the rest aside")
    else:
        typer.echo("the store is sound")
