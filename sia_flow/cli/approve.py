"""`sia-flow approve`: answer a pull that waits for a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sia_flow.cli.lookup import AsJson, Directory

if TYPE_CHECKING:
    from sia_flow.lineage.approvals import Approvals, Question


def command(
    what: Annotated[str, typer.Argument(metavar="SPEC|NAME", help="A spec file, or an experiment's name.")],
    *,
    arm: Annotated[str | None, typer.Option(help="Of several that wait: the one of this arm.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of several that wait: the one of this seed.")] = None,
    no: Annotated[bool, typer.Option("--no", help="Refuse: the arm ends in order, with its best so far.")] = False,
    note: Annotated[str, typer.Option(help="A word for the record.")] = "",
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Allow the pull that an experiment waits with, or refuse it; `sia-flow status` shows what waits.

    The answer holds for this one decision and stays on record. A run that waits goes on within a second; one that was
    stopped or killed meanwhile finds the answer when it goes on. A pull whose time ran out may still be allowed.

    Examples: sia-flow approve denoise; sia-flow approve denoise --arm SIA-W+H --seed 0 --no --note "too dear"
    """
    from sia_flow.cli.lookup import experiment_name, now, of_experiment, open_store
    from sia_flow.cli.text import printable
    from sia_flow.lineage.approvals import approvals_of

    project, store = open_store(directory)
    name = experiment_name(what)
    book = approvals_of(project.state, name)
    if not book.questions():
        of_experiment(store, name)
    question = _chosen(book, name, arm, seed)
    answer = book.answer(question.id, "no" if no else "yes", note)
    running = now(project, name).pid is not None
    if as_json:
        kept = {"experiment": name, "arm": question.arm, "seed": question.seed, "generation": question.index}
        typer.echo(json.dumps({**kept, "decision": question.id, "answer": answer.word, "running": running}))
        return
    then = "" if running else f"; nothing runs it now: sia-flow resume {name}"
    typer.echo(printable(f"{question.name}, {question.action}: {answer.word}, by {answer.by}{then}"))


def _chosen(book: Approvals, name: str, arm: str | None, seed: int | None) -> Question:
    """Return the question that is meant: the one that waits, else the last one, whose answer says why it is too late.

    Raises SpecError.
    """
    from sia_flow.errors import SpecError

    asked, waiting = (
        [q for q in found if arm in (None, q.arm) and seed in (None, q.seed)]
        for found in (book.questions(), book.waiting())
    )
    if len(waiting) > 1:
        raise SpecError(f"{name} waits with {_names(waiting)}: name one by --arm and --seed")
    if waiting:
        return waiting[0]
    if asked:
        return asked[-1]
    wanted = "".join(f" {what} {value}" for what, value in (("arm", arm), ("seed", seed)) if value is not None)
    others = book.waiting()
    there = f"; what waits is {_names(others)}" if others else ""
    raise SpecError(f"nothing of {name}{wanted} waits for an answer{there}")


def _names(questions: Sequence[Question]) -> str:
    return ", ".join(question.name for question in questions)
