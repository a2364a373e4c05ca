"""Scores answers that are texts: there is nothing to run, the verifier reads them on the host.

Invariant: a text is judged by the verifier alone and bounded before it gets there; a verdict does not depend on
what else was scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from sia_flow.canonical import digest
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import BatchVerifier, Instance, Limits, Sandbox, Verifier
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
        keys = [self._key_or_refusal(instance, answer) for instance, answer in items]
        waiting = {
            key: (instance, answer)
            for (instance, answer), key in zip(items, keys, strict=True)
            if isinstance(key, str) and answer is not None and key not in self.memo
        }
        self.memo.update(zip(waiting, self._read(list(waiting.values())), strict=True))
        self.verifications += len(waiting)
        return [self.memo[key] if isinstance(key, str) else key for key in keys]

    def key(self, instance: Instance, program: str) -> str:
        """Return the memo key of a text on an instance."""
        return digest([self.verifier.digest, self.verifier.data_digest, instance.id, program])

    def _read(self, items: Sequence[tuple[Instance, str]]) -> list[Verdict]:
        if isinstance(self._texts, BatchVerifier):
            return self._texts.score_texts(items)
        return [self._texts.score_text(*item) for item in items]

    def _key_or_refusal(self, instance: Instance, answer: str | None) -> str | Verdict:
        """Return an answer's key, or the verdict of what the verifier is not shown."""
        if answer is None:
            return self._failure("no_answer", "no answer was handed in")
        if len(answer) > MAX_CHARACTERS:
            return self._failure("too_long", f"the answer is longer than {MAX_CHARACTERS} characters")
        try:
            return self.key(instance, answer)
        except UnicodeEncodeError:
            return self._failure("text", "the answer holds a character that is not valid Unicode")
