"""The weight lever: the plan of an update, its algorithm chosen by the rewards' shape.

Invariant: the algorithm is one of the menu; a refused update is never planned again as it was: first by the other
algorithms of the menu, then at another rate.
"""

from __future__ import annotations

from collections.abc import Sequence

from sia_flow.agents.decision import Evidence
from sia_flow.agents.evidence import Statistics
from sia_flow.agents.plateau import pulls_of
from sia_flow.errors import TrainingError
from sia_flow.lineage.records import Generation, WeightPlan

SLOWER, FASTER = 0.5, 1.5


def weight_plan(evidence: Evidence, rewards: Statistics, algorithm: str | None = None) -> WeightPlan:
    """Return the plan of a weight update, by an algorithm of the menu or by the one that the table chooses.

    The table does not choose an algorithm whose update was refused since the last accepted one, while another is left.
    Where none is, the learning rate is halved for every update of the algorithm that lost on select since then, and
    raised by half for every one that gained too little. Raises TrainingError where the chooser names an algorithm that
    is not on the menu.
    """
    before = _refused(evidence)
    algorithm, why = (algorithm, "the ledger names it") if algorithm else _algorithm(evidence, rewards, before)
    refused = [pull for pull in before if _algorithm_of(pull) == algorithm]
    lost = sum(pull.gain < 0 for pull in refused)
    short = len(refused) - lost
    learning_rate, kl = evidence.rates(algorithm)
    return WeightPlan(
        algorithm=algorithm,
        iterations=evidence.iterations,
        learning_rate=learning_rate * SLOWER**lost * FASTER**short,
        kl=kl,
        reason=why + _pace(lost, short),
    )


def refused_here(evidence: Evidence) -> set[str]:
    """Return the algorithms whose update of the incumbent, as it stands, was refused."""
    return {_algorithm_of(pull) for pull in _refused(evidence) if pull.parent == evidence.incumbent.id}


def _algorithm(evidence: Evidence, rewards: Statistics, refused: Sequence[Generation]) -> tuple[str, str]:
    if len(evidence.menu) == 1:
        return evidence.menu[0], "the spec names it"
    tried = list(dict.fromkeys(_algorithm_of(pull) for pull in reversed(refused)))
    menu = tuple(name for name in evidence.menu if name not in tried) or evidence.menu
    algorithm, why = evidence.choose(rewards.groups, rewards.marks, menu)
    if algorithm not in menu:
        raise TrainingError(f"the chooser named {algorithm!r}; the menu has {', '.join(menu)}")
    return algorithm, why if menu == evidence.menu else f"{why}; {' and '.join(tried)} gained too little here"


def _algorithm_of(pull: Generation) -> str:
    """Return the algorithm of a generation's weight update."""
    assert pull.decision is not None
    assert pull.decision.weights is not None
    return pull.decision.weights.algorithm


def _pace(lost: int, short: int) -> str:
    told = [f"halved for each update that lost ({lost})"] if lost else []
    told += [f"raised by half for each one that gained too little ({short})"] if short else []
    return f"; the learning rate is {' and '.join(told)}" if told else ""


def _refused(evidence: Evidence) -> list[Generation]:
    """Return the weight updates since the last accepted one."""
    refused: list[Generation] = []
    for pull in reversed(pulls_of(evidence.history, "weights", "both")):
        if pull.accepted:
            break
        refused.append(pull)
    return refused
