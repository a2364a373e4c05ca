"""What a task's own catalogue of structural edits is made of: rewrites of the scaffold, as data.

Invariant: an edit is text and figures; nothing here knows how an agent applies or ranks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TaskEdit:
    """One structural edit of a task's scaffolds."""

    name: str
    summary: str
    cost: str
    """What it costs, in words."""
    needs: tuple[str, ...]
    """Top-level names that the scaffold must define."""
    functions: Mapping[str, str] = field(default_factory=dict)
    """Function of the scaffold -> its new source."""
    wraps: Mapping[str, str] = field(default_factory=dict)
    """Function -> expression to return instead of what it returned, which stands at `{}`."""
    adds: Mapping[str, str] = field(default_factory=dict)
    """Source of a function to add -> the function that it goes before."""
    constants: tuple[str, ...] = ()
    """Lines to add to the block of tunable constants."""
    samples: float = 1.0
    """Completions of a rollout, as a multiple of what they were."""
    gain: float = 0.0
    """Share of what the mean reward on train lacks of the best that the edit is expected to bring."""
