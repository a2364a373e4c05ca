"""An experiment that starts where another one was: its generation 0 is a stored generation's scaffold and adapter.

Invariant: what is forked is measured anew under the fork's own settings; where they are the same, the records are too.
"""

from __future__ import annotations

from sia_flow.errors import SpecError, StoreError
from sia_flow.lineage.records import FORK, Spend
from sia_flow.loop.arm import Made
from sia_flow.loop.evaluate import Agent
from sia_flow.loop.lab import Lab


def forked(lab: Lab, generation_id: str) -> Made:
    """Return the agent of a stored generation as one to begin with.

    Raises SpecError where the store has no such generation, or it rests on another base model or task.
    """
    try:
        generation = lab.store.generation(generation_id)
    except StoreError as error:
        raise SpecError(f"spec.start: {error}; fork a generation of this project, see `sia-flow status`") from error
    if generation.adapter is not None and generation.base != lab.inputs["base"]:
        raise SpecError(
            f"spec.start: the adapter of generation {generation_id[:12]} was trained on the base "
            f"{generation.base[:12]}, not on {lab.inputs['base'][:12]}: set policy.base to that one"
        )
    return Made(Agent(generation.scaffold, generation.adapter), None, Spend(), {FORK: generation.id})
