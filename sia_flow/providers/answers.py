"""Answers that are paid for, by the digest of the call: the same call is never made again.

Invariant: an answer is stored whole before its price is settled.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sia_flow.canonical import canonical_json
from sia_flow.dialogue import Reply
from sia_flow.errors import StoreError
from sia_flow.files import write_atomic
from sia_flow.lineage.records import Record


class Answer(Record):
    """What a call brought and what it cost."""

    kind: str = "sia-flow/answer@1"
    call: str
    model: str
    reply: Reply
    usd: float
    tokens: int
    priced: bool = True


class Answers:
    """A folder of answers."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, call: str) -> Answer | None:
        """Return the answer to a call, or None. Raises StoreError for one that is damaged."""
        path = self._path(call)
        try:
            return Answer.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise StoreError(f"{path} is damaged: delete it; the call is then made, and paid, again") from error

    def put(self, answer: Answer) -> None:
        """Store an answer."""
        write_atomic(self._path(answer.call), canonical_json(answer.model_dump(mode="json")) + b"\n")

    def _path(self, call: str) -> Path:
        return self.root / call[:2] / f"{call}.json"
