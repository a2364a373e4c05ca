"""Proposals for a scaffold's constants: a seeded TPE that has seen the trials of this line of scaffolds.

Invariant: proposals depend on the seed and the records alone; each stays within the bounds that the scaffold
states, and none repeats the current constants or a trial that is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Edit, Generation, Trial
from sia_flow.scaffold.constants import Constant, Value, constant_values, parse_constants, set_constants
from sia_flow.scaffold.contract import MAIN

if TYPE_CHECKING:
    import optuna

ATTEMPTS = 20
"""Draws for one proposal before a search space counts as used up."""
DIGITS = 3
"""Significant digits of a proposed float: a readable source, and no difference that matters."""


def constant_edits(files: Mapping[str, str], observed: Sequence[Trial], count: int, seed: int) -> tuple[Edit, ...]:
    """Return up to `count` alternative edits of the constants; none where there are no constants.

    `observed` are trials of these very constants whose means may be compared. Where the current constants are
    not among them (the gate refused the best trial), they count as no worse than it. Raises ScaffoldError for
    a malformed block.
    """
    constants = parse_constants(files[MAIN])
    if not constants or count < 1:
        return ()
    current = constant_values(files[MAIN])
    study = _study(constants, current, observed, seed)
    tried = [current, *(dict(trial.constants) for trial in observed)]
    edits = []
    for _ in range(count):
        values = _proposal(study, constants, tried)
        if values is None:
            break
        tried.append(values)
        edits.append(_edit(files[MAIN], current, values))
    return tuple(edits)


@dataclass(frozen=True, slots=True)
class Known:
    """Trials of constants that may be compared with each other."""

    trials: tuple[Trial, ...]
    own: bool
    """Whether they were made on the incumbent's policy and structure."""


def comparable_trials(history: Sequence[Generation], incumbent: Generation, source: str) -> Known:
    """Return the trials of the constants in `source`, the incumbent's, that may be compared, in order.

    Trials share their seeds, so on one policy and structure they differ by their constants alone. After a
    weight update or a structural edit they start anew; until there are some, the last ones before stand in.
    """
    constants = parse_constants(source)
    by_id = {generation.id: generation for generation in history}
    contexts: dict[tuple[str | None, str], list[Trial]] = {}
    for generation in history:
        parent = by_id.get(generation.parent or "")
        if parent is not None and tuned(generation):
            fitting = [trial for trial in _trials(generation) if _fits(constants, trial.constants)]
            contexts.setdefault(_context(parent, by_id), []).extend(fitting)
    own = contexts.get(_context(incumbent, by_id), [])
    return Known(tuple(own or next(reversed(contexts.values()), [])), bool(own))


def _trials(generation: Generation) -> tuple[Trial, ...]:
    """Return a pull's trials; a pull with one proposal had none, and its own train score stands for it."""
    edits = generation.decision.edits if generation.decision else ()
    if generation.trials or len(edits) != 1:
        return generation.trials
    edit = edits[0]
    score, constants = generation.train, constant_values(edit.files[MAIN])
    return (Trial(name=edit.name, constants=constants, mean=score.mean, se=score.se, n=score.n, chosen=True),)


def tuned(generation: Generation) -> bool:
    """Whether a pull of the constants made this generation."""
    edits = generation.decision.edits if generation.decision else ()
    return any(edit.kind == "constants" for edit in edits)


def _context(generation: Generation, by_id: Mapping[str, Generation]) -> tuple[str | None, str]:
    """Return the adapter, and the ancestor that brought the structure which the scaffold still has."""
    node = generation
    while node.decision is not None and not any(edit.kind != "constants" for edit in node.decision.edits):
        parent = by_id.get(node.parent or "")
        if parent is None:
            break
        node = parent
    return generation.adapter, node.id


def _fits(constants: Sequence[Constant], values: Mapping[str, Any]) -> bool:
    return {constant.name for constant in constants} == set(values) and all(
        values[c.name] in c.choices if c.kind == "str" else c.low <= values[c.name] <= c.high for c in constants
    )


def _study(
    constants: Sequence[Constant], current: Mapping[str, Value], known: Sequence[Trial], seed: int
) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=derive_seed(seed, "tpe") % 2**32, n_startup_trials=1, multivariate=True, constant_liar=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space = _space(constants)
    best = max((trial.mean for trial in known), default=0.0)
    observed: list[tuple[Mapping[str, Any], float]] = [(trial.constants, trial.mean) for trial in known]
    if all(dict(trial.constants) != current for trial in known):
        observed.append((current, best))
    for values, mean in observed:
        study.add_trial(optuna.trial.create_trial(params=dict(values), distributions=space, value=mean))
    return study


def _space(constants: Sequence[Constant]) -> dict[str, optuna.distributions.BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, optuna.distributions.BaseDistribution] = {}
    for c in constants:
        if c.kind == "str":
            space[c.name] = CategoricalDistribution(c.choices)
        elif c.kind == "int":
            space[c.name] = IntDistribution(math.ceil(c.low), math.floor(c.high), log=c.log)
        else:
            space[c.name] = FloatDistribution(c.low, c.high, log=c.log)
    return space


def _proposal(
    study: optuna.Study, constants: Sequence[Constant], tried: Sequence[Mapping[str, Value]]
) -> dict[str, Value] | None:
    for _ in range(ATTEMPTS):
        asked = study.ask(_space(constants)).params
        values = {constant.name: _rounded(constant, asked[constant.name]) for constant in constants}
        if values not in tried:
            return values
    return None


def _rounded(constant: Constant, value: Value) -> Value:
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), constant.low), constant.high)


def _edit(source: str, current: Mapping[str, Value], values: Mapping[str, Value]) -> Edit:
    changes = [f"{name} {_plain(current[name])} -> {_plain(v)}" for name, v in values.items() if v != current[name]]
    name = ", ".join(changes)
    return Edit(
        kind="constants",
        name=name,
        summary=f"Set {name}.",
        files={MAIN: set_constants(source, values)},
    )


def _plain(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
