"""Views turned into what MLflow stores: flat params, metrics with steps, tags. Pure; MLflow is not
imported.

Invariant: keys hold only characters that MLflow takes, values stay below its limits, and equal views give
equal entries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sia_flow.lineage.goodhart import closing, gap_of
from sia_flow.lineage.records import Generation, Score
from sia_flow.lineage.results import ArmResult
from sia_flow.track.views import ArmView, FinalView, GenerationView

VALUE_LIMIT = 5000
"""Characters: MLflow cuts params at 6000 and refuses tags above 8000."""
DIGEST_LENGTH = 16
"""Digits of a digest shown as a param; the full one is in the record."""


class Point(NamedTuple):
    """One value of a metric."""

    key: str
    value: float
    step: int


def flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Return the leaves of nested mappings by dotted path; lists and scalars as JSON, strings as they are."""
    if isinstance(value, Mapping):
        leaves: dict[str, str] = {}
        for name, item in value.items():
            leaves |= flatten(item, f"{prefix}.{name}" if prefix else str(name))
        return leaves
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return {_key(prefix): text[:VALUE_LIMIT]}


def arm_params(view: ArmView) -> dict[str, str]:
    """Return the params of an arm's run: what the resolved spec says, and the arm itself."""
    spec = view.spec.get("spec", view.spec)
    own = {"arm": view.arm, "seed": str(view.seed), "levers": "+".join(view.levers) or "none"}
    return flatten(spec, "spec") | own | {"control": view.control or "none"}


def arm_tags(view: ArmView) -> dict[str, str]:
    """Return the tags by which an arm's run is found."""
    return {"sia.kind": "arm", "sia.run": view.run, "sia.arm": view.arm, "sia.seed": str(view.seed)}


def generation_params(generation: Generation) -> dict[str, str]:
    """Return the params of a generation: the decision that made it and the digests that define it."""
    decision = generation.decision
    plan = decision.weights if decision else None
    params = {
        "lever": decision.lever if decision else "first",
        "algorithm": plan.algorithm if plan else "none",
        "edit": _chosen(generation),
        "parent": (generation.parent or "none")[:DIGEST_LENGTH],
        "isolation": f"{generation.isolation.level} {generation.isolation.backend}",
    }
    for name in ("scaffold", "adapter", "base", "data", "verifier"):
        params[name] = (getattr(generation, name) or "none")[:DIGEST_LENGTH]
    return params | (flatten(plan.model_dump(exclude={"reason"}), "plan") if plan else {})


def generation_tags(view: GenerationView) -> dict[str, str]:
    """Return the tags of a generation's run; `sia.generation` is its id, set last of all."""
    generation = view.generation
    tags = {
        "sia.kind": "generation",
        "sia.arm": view.arm.arm,
        "sia.seed": str(view.arm.seed),
        "sia.accepted": str(generation.accepted).lower(),
        "sia.verdict": generation.verdict[:VALUE_LIMIT],
        "sia.lever": generation_params(generation)["lever"],
        "sia.algorithm": generation_params(generation)["algorithm"],
        "sia.data": generation.data,
        "sia.verifier": generation.verifier,
        "sia.base": generation.base,
        "sia.scaffold": generation.scaffold,
        "sia.adapter": generation.adapter or "none",
    }
    return tags | ({"mlflow.note.content": view.report[:VALUE_LIMIT]} if view.report else {})


def generation_points(generation: Generation) -> list[Point]:
    """Return the metrics of a generation's run: scores, guards, spend at its index; training by iteration."""
    step = generation.index
    points = [*_score(generation.train, step), *_score(generation.select, step)]
    points += [Point(_key(f"guard/{name}"), margin, step) for name, margin in generation.guards.items()]
    points += [Point("gain", generation.gain, step), Point("gain_se", generation.gain_se, step)]
    points += [Point(f"spend/{name}", float(value), step) for name, value in generation.spend]
    return points + training_points(generation.training)


def training_points(steps: tuple[Mapping[str, float], ...]) -> list[Point]:
    """Return the metrics of a weight update, one point a metric and iteration."""
    return [point for index, metrics in enumerate(steps) for point in step_points(index, metrics)]


def step_points(step: int, metrics: Mapping[str, float]) -> list[Point]:
    """Return the metrics of one training iteration."""
    return [Point(_key(f"training/{name}"), float(value), step) for name, value in metrics.items()]


def progress_points(generation: Generation) -> list[Point]:
    """Return what the arm's run shows of a generation: its scores, by generation."""
    step = generation.index
    scores = (generation.train, generation.select)
    means = [Point(f"{score.split}/{name}", getattr(score, name), step) for score in scores for name in _SHOWN]
    return [*means, Point("accepted", float(generation.accepted), step)]


def goodhart_points(view: GenerationView) -> list[Point]:
    """Return how far what is optimised has left what is meant since generation 0; nothing where that is not known."""
    if view.first is None:
        return []
    found, step = gap_of(view.first, view.generation), view.generation.index
    values = {
        "gap": found.gap,
        "growth": found.growth,
        "growth_se": found.growth_se,
        "alarms": float(len(found.alarms)),
    }
    values |= {f"guard/{name}": drift for name, drift in found.guards.items()}
    values |= {f"truth/{name}": drift for name, drift in found.truth.items()}
    return [Point(_key(f"goodhart/{name}"), value, step) for name, value in values.items()]


def final_points(view: FinalView) -> list[Point]:
    """Return the end of an arm: its incumbent, its best program, the baselines and the 2x2 of both levers."""
    result = view.result
    step = len(result.generations) - 1
    points = list(_score(result.sealed, step))
    points += [Point(f"final/select/{name}", getattr(result.select, name), step) for name in _SHOWN]
    points += [Point(_key(f"guard/sealed/{name}"), margin, step) for name, margin in result.guards.items()]
    end = closing(result)
    points += [
        Point("goodhart/select_less_sealed", end.gap, step),
        Point("goodhart/select_less_sealed_se", end.se, step),
    ]
    if result.best:
        points.append(Point("best_program/train", result.best.train, step))
        points += [Point("best_program/select", result.best.select.mean, step)]
        points += [Point("best_program/sealed", result.best.sealed.mean, step)]
    for name, splits in result.baselines.items():
        points += [Point(_key(f"baseline/{name}/{split}"), mean, step) for split, mean in splits.items()]
    points += [Point(f"factorial/{c.scaffold}-{c.weights}", c.score.mean, step) for c in result.factorial]
    return points + [Point(f"spend/{name}", float(value), step) for name, value in result.spend]


def final_tags(result: ArmResult) -> dict[str, str]:
    """Return the tags of a finished arm; `sia.result` is set last of all."""
    return {
        "sia.incumbent": result.incumbent,
        "sia.stopped": result.stopped,
        "sia.generations": str(len(result.generations)),
    }


_SHOWN = ("mean", "se", "best", "valid")


def _score(score: Score, step: int) -> Iterator[Point]:
    for name in _SHOWN:
        yield Point(f"{score.split}/{name}", float(getattr(score, name)), step)
    for name, value in score.metrics.items():
        yield Point(_key(f"{score.split}/metrics/{name}"), value, step)


def _chosen(generation: Generation) -> str:
    tried = [trial.name for trial in generation.trials if trial.chosen]
    edits = generation.decision.edits if generation.decision else ()
    return (tried or [edit.name for edit in edits[:1]] or ["none"])[0][:VALUE_LIMIT]


def _key(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)[:240]
