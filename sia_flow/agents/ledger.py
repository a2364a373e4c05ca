"""The lever ledger of a project: every pull that its store knows of, across experiments.

Invariant: rows are computed from the store's records whenever they are asked for, each generation once, in an
order that depends on the records alone. What an agent made alone was no pull.
"""

from __future__ import annotations

from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Decision, Generation
from sia_flow.lineage.store import Store

Owner = tuple[str, str]
"""Experiment and arm."""


def ledger_rows(store: Store) -> tuple[LedgerRow, ...]:
    """Return a row for every generation that a pull made, by experiment, arm, seed and index.

    A pull that several arms share stands once, under the first of them by name. Raises StoreError for a damaged
    record.
    """
    owners = _owners(store)
    rows = [
        _row(store, generation, generation.decision, owners.get(generation.id))
        for generation in store.generations()
        if generation.decision is not None and "unaided" not in generation.steps
    ]
    return tuple(sorted(rows, key=_order))


def _owners(store: Store) -> dict[str, Owner]:
    owners: dict[str, Owner] = {}
    for result in store.arms():
        owner = (result.experiment, result.arm)
        for generation in result.generations:
            owners[generation] = min(owner, owners.get(generation, owner))
    return owners


def _row(store: Store, generation: Generation, decision: Decision, owner: Owner | None) -> LedgerRow:
    rollout = store.find(generation.steps.get("rollout train", ""))
    return LedgerRow(
        generation=generation.id,
        experiment=owner[0] if owner else None,
        arm=owner[1] if owner else None,
        task=rollout.inputs.get("task") if rollout else None,
        seed=generation.seed,
        index=generation.index,
        features=decision.features,
        lever=decision.lever,
        action=decision.action,
        edits=tuple(edit.name for edit in decision.edits),
        algorithm=decision.weights.algorithm if decision.weights else None,
        forecast=decision.forecast,
        gain=generation.gain,
        gain_se=generation.gain_se,
        accepted=generation.accepted,
        spend=generation.spend,
        draw=decision.draw,
    )


def _order(row: LedgerRow) -> tuple[str, str, int, int, str]:
    return (row.experiment or "", row.arm or "", row.seed, row.index, row.generation)
