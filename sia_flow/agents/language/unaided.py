"""The control `unaided`: a coding agent that works on the task once, alone, with the sandbox and nothing else.

Invariants: it sees what the Meta-Agent sees, and verdicts on train; its answer stands as it is, good or bad; where it
gives none, the best one that it tried does, and an empty one where it tried none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from sia_flow.agents.language.bench import Files, Rollouts
from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.prompts import unaided_system
from sia_flow.agents.language.render import rollout_text
from sia_flow.agents.language.schema import TEXT, Solution
from sia_flow.agents.language.talk import Talk
from sia_flow.agents.language.toolbox import Arguments, Handle, Toolbox, UnusableError
from sia_flow.agents.language.workspace import SHOWN, file_tools
from sia_flow.agents.report import quoted
from sia_flow.dialogue import Talker
from sia_flow.errors import BudgetSpentError

Kind = Literal["program", "text"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What an answer came to on the train instances."""

    problems: tuple[str, ...]
    """Why it could not be run at all."""
    rollouts: Rollouts = ()

    @property
    def mean(self) -> float:
        """Mean reward over the instances."""
        return fmean(verdict.reward for _, verdict in self.rollouts)

    @property
    def valid(self) -> bool:
        """Whether it gave a valid answer to any instance."""
        return any(verdict.valid for _, verdict in self.rollouts)

    @property
    def words(self) -> str:
        """The verdicts, as a model reads them."""
        if self.problems:
            return "it cannot run: " + "; ".join(self.problems)
        head = f"mean reward {self.mean:.4f} on {len(self.rollouts)} train instances"
        return "\n\n".join([head, *(rollout_text(t, v, SHOWN) for t, v in self.rollouts)])


class AnswerBench(Protocol):
    """Runs answers in the sandbox, on train instances alone."""

    def attempt(self, answer: str) -> Tried:
        """Judge an answer on every train instance. Raises UnusableError where a budget is spent."""


class _Try(Arguments):
    """An answer to try."""

    answer: Annotated[str, Field(max_length=TEXT)]
    """The whole program."""


class UnaidedAgent:
    """Works on a task by a model. `notes`, `failure` and `transcript` tell how it went."""

    def __init__(
        self, talker: Talker, bench: AnswerBench, task: str, kind: Kind, turns: int, services: Sequence[str] = ()
    ) -> None:
        """Answer nothing yet; `services` are the addresses that a procedure may read."""
        self.notes = ""
        self.failure = ""
        self.transcript = b""
        self._talker = talker
        self._bench = bench
        self._task = task
        self._kind: Kind = kind
        self._turns = turns
        self._services = services
        self._best: tuple[float, str] | None = None

    def solve(self, sample: Sequence[Mapping[str, Any]], reference: Files) -> str:
        """Return the answer; `reference` is an example of its form. Raises what the model's `ask` raises of faults.

        A cap of the budget that cuts it short is no fault: `failure` names it.
        """
        shown = {**reference, "data_sample.json": json.dumps(list(sample), indent=1, sort_keys=True)}
        tools = Toolbox([*file_tools({**shown, "task.md": self._task}), *self._tools()])
        system = unaided_system(self._kind, self._task, self._services)
        talk = Talk(self._talker, system, tools, Solution, self._turns)
        try:
            return self._answered(talk, _opening(shown))
        except AgentFailedError as error:
            self.failure = f"{error.code}: {error}"
        except BudgetSpentError as error:
            self.failure = error.limit
        finally:
            self.transcript = talk.transcript()
        return self._best[1] if self._best else ""

    def _tools(self) -> Iterator[Handle]:
        words = "Run an answer in the sandbox on every train instance, and read the verdicts. Nothing is kept."
        yield Handle("try_answer", words, _Try, lambda asked: self._tried(asked.answer).words)

    def _tried(self, answer: str) -> Tried:
        found = self._bench.attempt(answer)
        if found.valid and (self._best is None or found.mean > self._best[0]):
            self._best = (found.mean, answer)
        return found

    def _answered(self, talk: Talk[Solution], words: str) -> str:
        solution = talk.answer(words)
        try:
            found = self._tried(solution.answer)
        except UnusableError:
            return self._taken(solution)
        if not found.valid:
            solution = talk.answer(f"{found.words}\n\nMend it and answer once more, in full.")
        return self._taken(solution)

    def _taken(self, solution: Solution) -> str:
        self.notes = solution.notes
        return solution.answer


def _opening(shown: Files) -> str:
    files = "\n\n".join(f"### {name}\n{quoted(text, len(text))}" for name, text in sorted(shown.items()))
    return f"What you start from, public fields of train instances among it:\n\n{files}\n\nSolve the task."
