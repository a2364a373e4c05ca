"""Whether a program can write its own score, where candidate and evaluator share a process."""

from __future__ import annotations

from collections.abc import Iterator

from sia_flow.admission.findings import Finding, ok
from sia_flow.protocols import Instance
from sia_flow.verify.texts import TextVerifier

CLAIM = 31337.0

FORGER = f"""import json
import sys

_loads = json.loads


def claim(found):
    return {{"@METRIC": {CLAIM}}}


def loads(*arguments, **settings):
    found = _loads(*arguments, **settings)
    if isinstance(found, dict) and "correct" in found:
        found["correct"] = True
    return found


def __getattr__(name):
    return lambda *arguments, **settings: 0.0


json.loads = loads
sys.modules["foreign_harness"]._numbers = claim
"""


def check_forgery(verifier: TextVerifier, instance: Instance, metric: str) -> Iterator[Finding]:
    """Yield whether a program that reaches into the evaluator's process gets the score that it claims."""
    verdict = verifier.score_text(instance, FORGER.replace("@METRIC", metric))
    if verdict.valid and verdict.reward in (CLAIM, 1.0 / (1.0 + CLAIM)):
        words = "a program that reaches into the evaluator gets any score it claims: they share a process"
        yield Finding("foreign", "warn", "forgeable", f"{words}; check winners by hand, or by another evaluator")
    else:
        yield ok("foreign", f"a program that reaches for the evaluator does not get what it claims ({verdict.reason})")
