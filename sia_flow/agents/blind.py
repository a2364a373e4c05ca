"""The control `no-feedback`: edits of the constants drawn at random, as many as a harness pull would try.

Invariant: of the evidence it takes the scaffold that it edits, the number of alternatives and the seed; no
trajectory, no verdict and no score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

from sia_flow.agents.decision import Evidence
from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Decision, Edit
from sia_flow.scaffold.constants import Constant, Value, constant_values, parse_constants, set_constants
from sia_flow.scaffold.contract import MAIN

ATTEMPTS = 20
"""Draws for one alternative before the space of the constants counts as used up."""
DIGITS = 3


class BlindFeedbackAgent:
    """Always pulls the harness, without reading what came of it."""

    def decide(self, evidence: Evidence) -> Decision:
        """Return random settings of the constants. Raises ScaffoldError for a malformed block."""
        edits = random_edits(evidence.scaffold, evidence.trials, evidence.seed)
        if not edits:
            return Decision(lever="stop", reason="The scaffold has no constant to edit.", forecast=0.0)
        reason = f"{len(edits)} random settings of the constants, drawn without a look at the evidence."
        return Decision(lever="harness", reason=reason, forecast=0.0, edits=edits)


def random_edits(files: Mapping[str, str], count: int, seed: int) -> tuple[Edit, ...]:
    """Return up to `count` different settings, each constant uniform (or log-uniform) within its range."""
    constants = parse_constants(files[MAIN])
    current = constant_values(files[MAIN])
    random = Random(derive_seed(seed, "blind"))
    drawn: list[dict[str, Value]] = []
    for _ in range(count * ATTEMPTS if constants else 0):
        values = {constant.name: _draw(random, constant) for constant in constants}
        if values != current and values not in drawn:
            drawn.append(values)
        if len(drawn) == count:
            break
    return tuple(_edit(files[MAIN], constants, values) for values in drawn)


def _draw(random: Random, constant: Constant) -> Value:
    if constant.kind == "str":
        return random.choice(constant.choices)
    low, high = constant.low, constant.high
    if constant.log:
        value = math.exp(random.uniform(math.log(low), math.log(high)))
    elif constant.kind == "int":
        return random.randint(math.ceil(low), math.floor(high))
    else:
        value = random.uniform(low, high)
    if constant.kind == "int":
        return min(max(round(value), math.ceil(low)), math.floor(high))
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def _edit(source: str, constants: Sequence[Constant], values: Mapping[str, Value]) -> Edit:
    name = ", ".join(f"{constant.name} {values[constant.name]}" for constant in constants)
    return Edit(kind="constants", name=name, summary=f"Set {name}.", files={MAIN: set_constants(source, values)})
