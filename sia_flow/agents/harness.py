"""The harness lever: which edits a pull would offer now, and what they are expected to gain.

Invariant: a structural edit is offered once from one incumbent; what multiplies the completions of a rollout
waits where weights may be trained, since every training iteration would pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sia_flow.agents.catalogue import Context, Structural
from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import Statistics
from sia_flow.agents.forecast import calibrated, constants_gain
from sia_flow.agents.plateau import pulls_of
from sia_flow.agents.tuning import comparable_trials, constant_edits, tuned
from sia_flow.lineage.records import Edit, Generation
from sia_flow.scaffold.contract import MAIN

DEAR = 2.0
"""From how many times the completions on an edit counts as multiplying them."""

WORTH = 0.5
"""Standard errors of a gain on select that a structural edit must promise: to retry where nothing fails promises none.
"""


@dataclass(frozen=True, slots=True)
class HarnessPull:
    """What pulling the harness would mean now."""

    kind: Literal["constants", "structure"]
    edits: tuple[Edit, ...]
    forecast: float
    why: str
    exhausted: bool
    """No structural edit is untried, and constants are not expected to gain more than the noise does."""


@dataclass(frozen=True, slots=True)
class Offers:
    """The pulls of the harness that there are now, one a kind of edit; None where no such edit applies."""

    structure: HarnessPull | None = None
    constants: HarnessPull | None = None


def harness_offers(
    evidence: Evidence, rewards: Statistics, catalogue: Sequence[Structural], *, dear: bool, noise: float
) -> Offers:
    """Return what a pull of each kind would be.

    `dear` admits edits that multiply completions; `noise` is the standard error of a gain on select.
    """
    structure = _structure(evidence, rewards, catalogue, dear=dear, noise=noise)
    return Offers(structure, _constants(evidence, rewards, noise, untried=structure is not None))


def preferred(evidence: Evidence, offers: Offers) -> HarnessPull | None:
    """Return the pull that promises more, constants or structure; None where no edit applies.

    The first pull of an arm turns constants, the cheapest edit; structure follows on constants, and constants on
    a structure that was refused; else the larger forecast decides.
    """
    structure, constants = offers.structure, offers.constants
    if structure is None or constants is None:
        return structure or constants
    pulls = pulls_of(evidence.history, "harness", "both")
    if not pulls:
        return constants
    if tuned(pulls[-1]):
        return structure
    if not pulls[-1].accepted:
        return constants
    return constants if constants.forecast > structure.forecast else structure


def untried(evidence: Evidence, catalogue: Sequence[Structural], *, dear: bool) -> list[tuple[Structural, Edit]]:
    """Return the structural edits that apply and were not offered from this incumbent before."""
    context = Context(evidence.best_program)
    offered = {edit.name for child in _children(evidence) if child.decision for edit in child.decision.edits}
    found = [
        (entry, entry.edit(evidence.scaffold, context))
        for entry in catalogue
        if (dear or entry.samples < DEAR) and entry.applies(evidence.scaffold[MAIN], context)
    ]
    return [(entry, edit) for entry, edit in found if edit.name not in offered]


def _structure(
    evidence: Evidence, rewards: Statistics, catalogue: Sequence[Structural], *, dear: bool, noise: float
) -> HarnessPull | None:
    found = untried(evidence, catalogue, dear=dear)
    found = [pair for pair in found if pair[0].gain(rewards) > WORTH * noise]
    found.sort(key=lambda pair: -pair[0].gain(rewards))
    found = found[: max(1, evidence.trials)]
    if not found:
        return None
    pulls = [pull for pull in pulls_of(evidence.history, "harness", "both") if not tuned(pull)]
    entry = found[0][0]
    count = f"{len(found)} structural edits are" if len(found) > 1 else "one structural edit is"
    why = f"{count} untried on this incumbent; {entry.name} promises most"
    forecast = calibrated(max(0.0, entry.gain(rewards)), pulls)
    return HarnessPull("structure", tuple(edit for _, edit in found), forecast, why, exhausted=False)


def _constants(evidence: Evidence, rewards: Statistics, noise: float, *, untried: bool) -> HarnessPull | None:
    known = comparable_trials(evidence.history, evidence.incumbent, evidence.scaffold[MAIN])
    edits = constant_edits(evidence.scaffold, known.trials, evidence.trials, evidence.seed)
    if not edits:
        return None
    pulls = [pull for pull in pulls_of(evidence.history, "harness", "both") if tuned(pull)]
    forecast = calibrated(constants_gain(known, len(edits), rewards), pulls)
    where = "this policy and structure" if known.own else "an earlier policy or structure"
    seen = f"after {len(known.trials)} trials on {where}" if known.trials else "with no trial yet"
    why = f"{len(edits)} settings of the constants are worth a trial, {seen}"
    return HarnessPull("constants", edits, forecast, why, exhausted=not untried and forecast <= noise)


def _children(evidence: Evidence) -> list[Generation]:
    return [generation for generation in evidence.history if generation.parent == evidence.incumbent.id]
