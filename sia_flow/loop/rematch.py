"""An indecisive gain buys more samples: new agent and incumbent are rolled out again, on the same instances and seeds.

Invariant: both sides draw from the same further streams, so they stay paired; a generation's own scores stay those of
the first draws, which all generations have in common, and only its verdict rests on the pooled ones.

Looking again after each round makes a false acceptance likelier than one look at `k` does; choose `k` by that.
"""

from __future__ import annotations

import dataclasses

from sia_flow.lineage.records import Spend
from sia_flow.loop.arm import ArmState, Match, select_sample
from sia_flow.loop.evaluate import Agent, Evaluation, evaluate
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Runner
from sia_flow.verify.gate import indecisive, pooled


def rematch(lab: Lab, run: Runner, state: ArmState, agent: Agent, select: Evaluation) -> Match | None:
    """Measure again until the gain decides or the spec's rounds are used up; None for a first generation."""
    incumbent, accept = state.incumbent, lab.spec.accept
    if incumbent is None:
        return None
    sides = {"select": (agent, [select.score]), "incumbent": (_agent(state), [incumbent.select])}
    spend, steps = Spend(), dict[str, str]()
    for number in range(1, accept.more + 1):
        new, old = (pooled(scores) for _, scores in sides.values())
        if not indecisive(new, old, accept.k):
            break
        sample = dataclasses.replace(select_sample(lab), stream=f"more {number}")
        for name, (who, scores) in sides.items():
            label = state.label(len(state.history), f"{name} again {number}")
            found = evaluate(lab, run, who, sample, state.seed, label)
            scores.append(found.score)
            spend += found.spend
            steps |= {f"rollout {name} {number}": found.rollout.key, f"verify {name} {number}": found.verify.key}
    new, old = (pooled(scores) for _, scores in sides.values())
    return Match(new, old, spend, steps)


def _agent(state: ArmState) -> Agent:
    assert state.incumbent is not None
    return Agent(state.incumbent.scaffold, state.incumbent.adapter)
