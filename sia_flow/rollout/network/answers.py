"""Answers of services that scaffolds have seen, one file a call: the same call of the same rollout sees it again.

Invariant: an answer is on disk before the scaffold gets it, so that a step that was killed and begun again shows its
scaffolds the web as it was, and comes to the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sia_flow.lineage.kept import Kept
from sia_flow.lineage.records import Record


class Page(Record):
    """What a service answered."""

    status: int
    url: str
    """Where it was found, after redirects."""
    headers: Mapping[str, str]
    text: str


class Answer(Record):
    """What a call came to: a page, or why there is none."""

    kind: str = "sia-flow/fetched@1"
    page: Page | None = None
    refused: str = ""


class Answers:
    """A folder of answers of one step; without a folder, none is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._kept = None if folder is None else Kept(folder, Answer, "the service is then asked again")

    def find(self, call: str) -> Answer | None:
        """Return the answer to a call, or None. Raises StoreError for one that is damaged."""
        return None if self._kept is None else self._kept.find(call)

    def put(self, call: str, answer: Answer) -> None:
        """Store an answer. Raises StoreError."""
        if self._kept is not None:
            self._kept.put(call, answer)
