"""The sealed split is read once an arm, by the code that reports; a later reading takes a word and is on record.

Invariant: a lab gives out sealed instances inside `sealed_reading` alone, and never before the reading is on record.
What was computed already may be looked at for ever: only a new computation is a reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sia_flow.canonical import digest
from sia_flow.errors import SealedError
from sia_flow.lineage.readings import Reading, allowed, give_leave, put_reading, readings
from sia_flow.loop.arm import ArmState
from sia_flow.loop.lab import Lab

GROWS = {"approve", "arms", "seeds", "budget", "schedule", "track"}
"""Sections of a spec that may change while an arm stays itself."""


def arm_id(lab: Lab, state: ArmState) -> str:
    """Return what makes an arm itself, however long it runs and however large its last measurement is."""
    spec = lab.spec.model_dump(mode="json", exclude=GROWS)
    spec["verify"] = {name: value for name, value in spec["verify"].items() if name != "sealed"}
    spec["rollouts"] = {name: value for name, value in spec["rollouts"].items() if name != "workers"}
    name, arm = lab.experiment.metadata.name, state.arm.model_dump(mode="json")
    return digest([name, spec, arm, state.seed, lab.inputs])


def refuse_second_reading(lab: Lab, state: ArmState, keys: Sequence[str]) -> None:
    """Raise SealedError where an arm has read its sealed split for another result than those with these keys.

    Called before anything is spent on going on. A rehearsal is never refused.
    """
    name = arm_id(lab, state)
    held = readings(lab.store, name)
    if not held or lab.store.rehearsal or any(one.key in keys for one in held) or allowed(lab.store, name):
        return
    raise SealedError(
        f"{_name(state)} has read its sealed split already ({_times(len(held))}). Going on would read it again, and "
        "a figure that comes after a look at it is held out no more. If that is meant, add --read-sealed-again to "
        "`sia-flow apply` or `resume`: the later reading stays on record"
    )


@contextmanager
def sealed_reading(lab: Lab, state: ArmState, key: str) -> Iterator[None]:
    """Let the lab give out sealed instances for the result with a key."""

    def note() -> None:
        refuse_second_reading(lab, state, [key])
        name = arm_id(lab, state)
        held = readings(lab.store, name)
        if any(one.key == key for one in held):
            return
        put_reading(
            lab.store,
            Reading(
                arm_id=name,
                number=len(held) + 1,
                key=key,
                experiment=lab.experiment.metadata.name,
                arm=state.arm.name,
                seed=state.seed,
                data=lab.inputs["data"],
            ),
        )
        if held:
            lab.watcher.warning(f"{_name(state)} reads its sealed split again (it did so {_times(len(held))})")

    with lab.unsealed(note):
        yield


def number_of_reading(lab: Lab, state: ArmState, key: str) -> int:
    """Return which reading of the arm a result rests on: 1 where it is the first, or none was noted."""
    return next((one.number for one in readings(lab.store, arm_id(lab, state)) if one.key == key), 1)


def allow_again(lab: Lab, states: Iterable[ArmState]) -> list[str]:
    """Put on record that the arms among these that have read their sealed split may do so once more; return which."""
    found = []
    for state in states:
        name = arm_id(lab, state)
        if readings(lab.store, name):
            give_leave(lab.store, name)
            found.append(_name(state))
    return found


def _name(state: ArmState) -> str:
    return f"{state.arm.name} seed {state.seed}"


def _times(count: int) -> str:
    return "once before" if count == 1 else f"{count} times before"
