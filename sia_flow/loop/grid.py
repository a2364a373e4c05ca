"""The whole grid of scaffolds x adapters of an arm and seed, on select.

Invariant: a cell is the rollout and the verify step of its pair under the arm's own draws. So the generations' cells
are there already, a cell is paid for once, any two cells are paired, and nothing of it feeds back into the search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from sia_flow.lineage.records import Generation, Score
from sia_flow.lineage.results import ArmResult
from sia_flow.loop.arm import select_sample
from sia_flow.loop.evaluate import Agent, evaluate, prepare_rollout, prepare_verify
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Runner

Cells = Mapping[Agent, Score | None]


@dataclass(frozen=True, slots=True)
class Grid:
    """One arm and seed: its scaffolds, its adapters, what each pair scores."""

    arm: str
    seed: int
    history: tuple[Generation, ...]
    incumbent: Generation
    scaffolds: Mapping[str, str]
    """Object id -> name: `@2`, the generation that it came with."""
    adapters: Mapping[str | None, str]
    """Object id, none for the bare base -> name."""
    cells: Cells
    """None where a pair was not measured."""

    @property
    def joint(self) -> Agent:
        """The joint optimum that the search came to: scaffold and adapter of the incumbent."""
        return Agent(self.incumbent.scaffold, self.incumbent.adapter)

    @property
    def missing(self) -> list[Agent]:
        """The pairs that were not measured."""
        return [agent for agent, score in self.cells.items() if score is None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What the missing cells of some grids take."""

    cells: int
    missing: int
    rollouts: int
    tokens: float
    seconds: float
    """By the clock, as this project's own steps took; 0 where none was timed."""


def grid_of(lab: Lab, result: ArmResult) -> Grid:
    """Return the grid of a finished arm as far as it is measured; nothing runs."""
    history = tuple(lab.store.generation(generation_id) for generation_id in result.generations)
    incumbent = next(g for g in history if g.id == result.incumbent)
    scaffolds: dict[str, str] = {}
    adapters: dict[str | None, str] = {None: "base"}
    for generation in history:
        scaffolds.setdefault(generation.scaffold, f"@{generation.index}")
        adapters.setdefault(generation.adapter, f"@{generation.index}")
    pairs = [Agent(scaffold, adapter) for scaffold in scaffolds for adapter in adapters]
    cells = {agent: _known(lab, agent, result.seed) for agent in pairs}
    return Grid(result.arm, result.seed, history, incumbent, scaffolds, adapters, cells)


def cost_of(lab: Lab, grids: Sequence[Grid]) -> Cost:
    """Return what the missing cells will take, by what the arms' own select rollouts took."""
    own = [generation for grid in grids for generation in grid.history]
    timed = {entry["key"]: float(entry["seconds"]) for entry in lab.store.journal() if "seconds" in entry}
    seconds = [sum(timed.get(g.steps.get(f"{name} select", ""), 0.0) for name in ("rollout", "verify")) for g in own]
    tokens = [_tokens(lab, generation) for generation in own]
    missing = sum(len(grid.missing) for grid in grids)
    sample = select_sample(lab)
    return Cost(
        cells=sum(len(grid.cells) for grid in grids),
        missing=missing,
        rollouts=missing * sample.instances * sample.samples,
        tokens=missing * fmean(tokens) if tokens else 0.0,
        seconds=missing * fmean(seconds) if seconds else 0.0,
    )


def measure(lab: Lab, run: Runner, grid: Grid) -> Grid:
    """Run the missing cells of a grid and return it whole."""
    cells = dict(grid.cells)
    for agent in grid.missing:
        names = f"scaffold {grid.scaffolds[agent.scaffold]}, weights {grid.adapters[agent.adapter]}"
        label = f"{grid.arm} seed {grid.seed} grid: {names}"
        cells[agent] = evaluate(lab, run, agent, select_sample(lab), grid.seed, label).score
    return replace(grid, cells=cells)


def neighbours(grid: Grid) -> list[tuple[str, str, Agent]]:
    """Return (part, name, pair) of the joint optimum with one part swapped for its neighbours in the lineage.

    Neighbours are the last other one on the way to it, and those that were tried from it.
    """
    by_id = {generation.id: generation for generation in grid.history}
    joint = grid.incumbent
    children = [g for g in grid.history if g.parent == joint.id]
    line = list(_ancestors(joint, by_id))
    found: dict[Agent, tuple[str, str, Agent]] = {}
    for name, others in (("before", line), ("after", children)):
        scaffolds = [g for g in others if g.scaffold != joint.scaffold]
        adapters = [g for g in others if g.adapter != joint.adapter]
        for near in scaffolds[:1] if name == "before" else scaffolds:
            agent = Agent(near.scaffold, joint.adapter)
            found.setdefault(agent, ("scaffold", f"{grid.scaffolds[near.scaffold]}, {name} it", agent))
        for near in adapters[:1] if name == "before" else adapters:
            agent = Agent(joint.scaffold, near.adapter)
            found.setdefault(agent, ("weights", f"{grid.adapters[near.adapter]}, {name} it", agent))
    return list(found.values())


def _ancestors(generation: Generation, by_id: Mapping[str, Generation]) -> Iterable[Generation]:
    parent = by_id.get(generation.parent or "")
    while parent is not None:
        yield parent
        parent = by_id.get(parent.parent or "")


def _known(lab: Lab, agent: Agent, seed: int) -> Score | None:
    sample = select_sample(lab)
    rollout = lab.store.find(prepare_rollout(lab, agent, sample, seed, "").step.key)
    verify = lab.store.find(prepare_verify(lab, rollout, sample, "").step.key) if rollout else None
    return Score.model_validate(verify.result) if verify else None


def _tokens(lab: Lab, generation: Generation) -> int:
    rollout = lab.store.find(generation.steps.get("rollout select", ""))
    return rollout.spend.prompt_tokens + rollout.spend.completion_tokens if rollout else 0
