"""Answers that are paid for, by the digest of the call: the same call is never made again.

Invariant: an answer is stored whole before its price is settled.
"""

from __future__ import annotations

from pathlib import Path

from sia_flow.dialogue import Reply
from sia_flow.lineage.kept import Kept
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


class Answers(Kept[Answer]):
    """A folder of answers by the digest of their call."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, Answer, "the call is then made, and paid, again")
