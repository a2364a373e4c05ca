"""Whether a verdict can be had twice: determinism of scores, and the noise of timed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from sia_flow.admission.findings import Finding, ok
from sia_flow.lineage.records import Verdict

STEADY, NOISY = 0.03, 0.10
"""Relative spread of a timed reward that is well, and that is too much."""


def check_repeat(rounds: Sequence[Sequence[Verdict]], names: Sequence[str], *, timed: bool) -> Iterator[Finding]:
    """Yield answers whose verdicts differ between rounds; of a timed task, by how much its rewards spread."""
    worst = 0.0
    for index, name in enumerate(names):
        found = [verdicts[index] for verdicts in rounds]
        rewards = [verdict.reward for verdict in found]
        if len({(v.valid, v.reason) for v in found}) > 1:
            words = f"{name}: {', '.join(v.reason for v in found)} for one and the same answer"
            yield Finding("determinism", "fail", "verdict_changes", words)
        elif not timed and any(_told(v) != _told(found[0]) for v in found):
            words = f"{name}: {' and then '.join(dict.fromkeys(map(_told, found)))} for one and the same answer"
            yield Finding("determinism", "fail", "score_changes", f"{words}; seed what is drawn")
        elif len(set(rewards)) > 1:
            worst = max(worst, (max(rewards) - min(rewards)) / abs(fmean(rewards)))
    if timed:
        yield _noise(worst)
    elif all(len(set(map(_told, column))) == 1 for column in zip(*rounds, strict=True)):
        yield ok("determinism", f"{len(names)} answers scored {len(rounds)} times, each time the same")


def _told(verdict: Verdict) -> str:
    """Return what a verdict measured: a reward that is clipped to the floor hides a metric that moves."""
    numbers = {"reward": verdict.reward, **verdict.metrics}
    return ", ".join(f"{name} {value:.9g}" for name, value in sorted(numbers.items()))


def _noise(worst: float) -> Finding:
    words = f"rewards of one answer spread by {worst:.1%} over repeats"
    if worst > NOISY:
        return Finding("noise", "fail", "timing_noise", f"{words}, more than {NOISY:.0%}; time more repeats, in turns")
    if worst > STEADY:
        return Finding("noise", "warn", "timing_noise", f"{words}, more than {STEADY:.0%}")
    return ok("noise", words)
