"""What the results of an experiment say, in sentences; it imports no engine, so that `compare` answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sia_flow.lineage.results import ArmResult

if TYPE_CHECKING:
    from sia_flow.report.attribution import Share


def verdicts(results: Sequence[ArmResult]) -> list[str]:
    """Return what the comparisons of the arms say, what each lever is worth, and what the sealed figures warn of."""
    from sia_flow.lineage.goodhart import closing
    from sia_flow.report.attribution import attribution
    from sia_flow.report.comparison import compare
    from sia_flow.report.family import pairwise

    found = (compare(results, split=split) for split in ("sealed", "select"))
    said = [comparison.verdict for comparison in found if comparison]
    family = pairwise(results)
    if len(family) > 1:
        said += [f"{pair.verdict} (sealed, Holm over {len(family)} comparisons)" for pair in family]
    said += _worth(attribution(results))
    return said + [f"alarm: {alarm}" for result in results for alarm in closing(result).alarms]


def _worth(shares: Sequence[Share]) -> list[str]:
    """Return the sentence on what scaffold and weights add, where both were measured apart."""
    if not shares:
        return []
    parts = ", ".join(f"{share.part} {share.value:+.4f} [{share.low:+.4f}, {share.high:+.4f}]" for share in shares)
    seeds = "one seed" if shares[0].seeds == 1 else f"{shares[0].seeds} seeds"
    return [f"Of SIA-W+H's gain on select, by Shapley value: {parts}; 95% {shares[0].method}, {seeds}."]
