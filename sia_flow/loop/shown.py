"""Records as agents may see them: without the figures that only a known truth gives."""

from __future__ import annotations

from collections.abc import Mapping

from sia_flow.lineage.records import Generation, Verdict

PRIVATE = "truth_"
"""Prefix of the metrics that a verifier computes from what no agent may know."""


def shown(generation: Generation) -> Generation:
    """Return a generation as agents may see it."""
    scores = {split: getattr(generation, split) for split in ("train", "select")}
    public = {s: score.model_copy(update={"metrics": _public(score.metrics)}) for s, score in scores.items()}
    return generation.model_copy(update=public)


def shown_verdict(verdict: Verdict) -> Verdict:
    """Return a verdict as agents may see it."""
    return verdict.model_copy(update={"metrics": _public(verdict.metrics)})


def _public(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(PRIVATE)}
