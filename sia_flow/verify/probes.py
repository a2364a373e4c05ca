"""Probes: answers that must not pay. One that does means that the verifier or the sandbox is broken.

Invariant: an experiment whose probe scores above the floor does not start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sia_flow.errors import TaskError, VerifierError
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import Instance
from sia_flow.verify.apart.faults import FAULTS
from sia_flow.verify.programs import ProgramScorer


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer that a lazy or cheating agent might hand in."""

    name: str
    answer: str | None
    fails: bool = False
    """A valid verdict at all is a breach: the program gets through only if it found what it must not."""

    def breached(self, verdict: Verdict, floor: float) -> bool:
        """Return whether the verdict shows a breach."""
        return verdict.reward > floor or (self.fails and verdict_of_run(verdict))


def verdict_of_run(verdict: Verdict) -> bool:
    """Return whether the program ran to its end and handed in an array that could be measured."""
    return verdict.valid or bool(verdict.metrics)


def run_probes(scorer: ProgramScorer, instance: Instance, probes: Sequence[Probe]) -> dict[str, Verdict]:
    """Return the verdict of each probe on an instance, by name."""
    verdicts = scorer.score([(instance, probe.answer) for probe in probes])
    return {probe.name: verdict for probe, verdict in zip(probes, verdicts, strict=True)}


def assert_probes(scorer: ProgramScorer, instance: Instance, probes: Sequence[Probe]) -> dict[str, Verdict]:
    """Run the probes and return their verdicts. Raises TaskError that names every probe that paid.

    Raises VerifierError where the verifier itself broke on one.
    """
    verdicts = run_probes(scorer, instance, probes)
    unjudged = [f"{name} ({verdict.reason})" for name, verdict in verdicts.items() if verdict.reason in FAULTS]
    if unjudged:
        raise VerifierError(
            f"task {scorer.task.name}: its verifier failed on probes: {', '.join(unjudged)}; the warnings say how. "
            "It must give every answer a verdict"
        )
    broken = [
        f"{probe.name} (reward {verdicts[probe.name].reward:.4f})"
        for probe in probes
        if probe.breached(verdicts[probe.name], scorer.verifier.floor)
    ]
    if broken:
        raise TaskError(
            f"task {scorer.task.name}: probes that must not pay did: {', '.join(broken)}. "
            "Its verifier or the sandbox leaks; no score of this set-up can be trusted"
        )
    return verdicts
