"""The scorer that fits a task's kind of answer.

Invariant: whatever the kind, a scorer takes (instance, answer) pairs and gives one verdict each, in order.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sia_flow.protocols import Limits, Sandbox, Verifier
from sia_flow.verify.programs import ProgramScorer
from sia_flow.verify.task import Task
from sia_flow.verify.texts import TextScorer
from sia_flow.verify.timed import TimedVerifier
from sia_flow.verify.timed_programs import TimedScorer


def open_scorer(
    task: Task, verifier: Verifier, sandbox: Sandbox, limits: Limits, workers: int, kept: Path
) -> ProgramScorer:
    """Return a scorer; `kept` is the folder where verdicts that were measured stay, whoever asks again."""
    if task.manifest.answer.timed:
        return TimedScorer(task, cast("TimedVerifier", verifier), sandbox, limits, kept=kept)
    if task.manifest.answer.type == "text":
        return TextScorer(task, verifier, sandbox, limits)
    return ProgramScorer(task, verifier, sandbox, limits, workers)
