"""A task's own structural edits, as entries of the builtin agent's catalogue."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from sia_flow.agents.catalogue import Context, Structural
from sia_flow.agents.evidence import Statistics
from sia_flow.scaffold.constants import add_constant
from sia_flow.scaffold.functions import add_function, replace_function, wrap_return
from sia_flow.verify.edits import TaskEdit


def structural(edits: Sequence[TaskEdit]) -> tuple[Structural, ...]:
    """Return the catalogue that a task brings, in its order."""
    return tuple(
        Structural(
            name=edit.name,
            summary=edit.summary,
            cost=edit.cost,
            samples=edit.samples,
            needs=edit.needs,
            rewrite=functools.partial(_rewrite, edit),
            gain=functools.partial(_gain, edit),
        )
        for edit in edits
    )


def _rewrite(edit: TaskEdit, source: str, _: Context) -> str:
    for line in edit.constants:
        source = add_constant(source, line)
    for text, before in edit.adds.items():
        source = add_function(source, text, before=before)
    for name, text in edit.functions.items():
        source = replace_function(source, name, text)
    for name, expression in edit.wraps.items():
        source = wrap_return(source, name, expression)
    return source


def _gain(edit: TaskEdit, rewards: Statistics) -> float:
    return edit.gain * (rewards.best - rewards.mean)
