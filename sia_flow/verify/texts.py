"""Scores answers that are texts: there is nothing to run, the verifier reads them on the host.

Invariant: a text is judged by the verifier alone and bounded before it gets there; a verdict does not depend on
what else was scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from sia_flow.canonical import digest
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import Instance, Limits, Sandbox, Verifier
from sia_flow.verify.programs import ProgramScorer
from sia_flow.verify.task import Task

MAX_CHARACTERS = 1 << 16


class TextVerifier(Verifier, Protocol):
    """The verifier of a task whose answers are texts."""

    def score_text(self, instance: Instance, answer: str) -> Verdict:
        """Score an answer; a text that breaks the task's form is invalid, with a reason code."""


class TextScorer(ProgramScorer):
    """Scores texts of one task. `verifications` counts the texts that were read."""

    def __init__(
        self,
        task: Task,
        verifier: Verifier,
        sandbox: Sandbox,
        limits: Limits | None = None,
        memo: Mapping[str, Verdict] | None = None,
    ) -> None:
        super().__init__(task, verifier, sandbox, limits, memo=memo)
        self._texts = cast("TextVerifier", verifier)

    def score(self, items: Sequence[tuple[Instance, str | None]]) -> list[Verdict]:
        """Return the verdict of each (instance, answer), in order; an answer of None is a missing one."""
        return [self._one(instance, answer) for instance, answer in items]

    def key(self, instance: Instance, program: str) -> str:
        """Return the memo key of a text on an instance."""
        return digest([self.verifier.digest, self.verifier.data_digest, instance.id, program])

    def _one(self, instance: Instance, answer: str | None) -> Verdict:
        if answer is None:
            return self._failure("no_answer", "no answer was handed in")
        if len(answer) > MAX_CHARACTERS:
            return self._failure("too_long", f"the answer is longer than {MAX_CHARACTERS} characters")
        try:
            key = self.key(instance, answer)
        except UnicodeEncodeError:
            return self._failure("text", "the answer holds a character that is not valid Unicode")
        if key not in self.memo:
            self.memo[key] = self._texts.score_text(instance, answer)
            self.verifications += 1
        return self.memo[key]
