"""Answers of services that scaffolds have seen, one file a call: the same call of the same rollout sees it again.

Invariant: an answer is on disk before the scaffold gets it, so that a step that was killed and begun again shows its
scaffolds the web as it was, and comes to the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from sia_flow.canonical import canonical_json
from sia_flow.errors import StoreError
from sia_flow.files import write_atomic
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
        self._folder = folder

    def find(self, call: str) -> Answer | None:
        """Return the answer to a call, or None. Raises StoreError for one that is damaged."""
        if self._folder is None:
            return None
        path = self._path(self._folder, call)
        try:
            return Answer.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise StoreError(f"{path} is damaged: delete it; the service is then asked again") from error

    def put(self, call: str, answer: Answer) -> None:
        """Store an answer. Raises StoreError."""
        if self._folder is not None:
            write_atomic(self._path(self._folder, call), canonical_json(answer.model_dump(mode="json")) + b"\n")

    @staticmethod
    def _path(folder: Path, call: str) -> Path:
        return folder / call[:2] / f"{call}.json"
