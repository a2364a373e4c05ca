"""Problems of a spec, each with its place; all of a file's are reported at once, in order of its lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sia_flow.errors import SpecError
from sia_flow.spec.nodes import Mark

SHOWN = 20


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, where, and what to do."""

    mark: Mark
    path: str
    """Path of the value, empty where the problem is the file's syntax."""
    message: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.path}: {self.message}" if self.path else f"{self.mark}: {self.message}"


class InvalidSpecError(SpecError):
    """A spec with one or more problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"... and {len(self.problems) - SHOWN} more problems")
        super().__init__("\n".join(lines))
