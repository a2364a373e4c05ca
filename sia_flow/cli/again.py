"""A recorded run made again: its inputs checked, its steps run in an empty store, its digests compared.

Invariant: nothing of the original run's store is read while it is made, so that agreement is not a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from sia_flow.canonical import digest
from sia_flow.cli.recorded import experiment_of
from sia_flow.errors import SiaFlowError, SpecError, StoreError
from sia_flow.lineage.heads import Head
from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.plan.project import Project

if TYPE_CHECKING:
    from sia_flow.loop.lab import Lab
    from sia_flow.spec.models import Experiment


class Line(NamedTuple):
    """One thing that was compared."""

    what: str
    recorded: str
    found: str

    @property
    def same(self) -> bool:
        """Whether it is what was recorded."""
        return self.recorded == self.found


def read_lock(path: Path) -> Head:
    """Return the run that a lock file describes. Raises SpecError."""
    try:
        return Head.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SpecError(f"{path} is no lock file of sia-flow: name a run, or the lock.json of an export") from error


def check_inputs(project: Project, head: Head) -> list[Line]:
    """Return how task, data, verifier and base compare with the record; what is missing is fetched or built first."""
    from sia_flow.loop.lab import Lab

    experiment = experiment_of(head)
    _obtain(project, experiment)
    with Lab(experiment, project.root, Store(project.store)) as lab:
        found = lab.inputs
    return [Line(f"{name} digest", recorded, found.get(name, "none")) for name, recorded in head.inputs.items()]


def _obtain(project: Project, experiment: Experiment) -> None:
    """Fetch data set and base by DVC where they are not here; build them where DVC has not got them either."""
    from flows.prepare import is_prepared, prepare_experiment
    from sia_flow.verify.task import load_task
    from sia_flow.version.fetch import fetch

    data = load_task(project.root, experiment.spec.task.name).data_dir(project.root, experiment.spec.task.data)
    base = project.models / experiment.spec.policy.base
    if not is_prepared(data):
        fetch(project.root, data)
    if not Path(experiment.spec.policy.base).is_dir() and not (base / "config.json").is_file():
        fetch(project.root, base)
    prepare_experiment(project, experiment)


def check_objects(store: Store, head: Head) -> list[Line]:
    """Return whether each object of the run's generations is in the store and matches its id."""
    lines = []
    for generation_id in head.generations:
        generation = store.generation(generation_id)
        for what in ("scaffold", "adapter", "trajectories"):
            oid = getattr(generation, what)
            if oid is not None:
                lines.append(Line(f"generation {generation.index} {what}", oid, _read(store, oid)))
    return lines


def _read(store: Store, oid: str) -> str:
    try:
        store.objects.get_tree(oid) if oid.endswith(".dir") else store.objects.get_bytes(oid)
    except StoreError as error:
        return str(error)
    return oid


def version_lines(head: Head) -> list[str]:
    """Return the versions that are not those of the record."""
    from sia_flow.loop.heads import versions

    here = versions()
    names = sorted(here.keys() | head.versions.keys()) if head.versions else []
    pairs = ((name, head.versions.get(name, "none"), here.get(name, "none")) for name in names)
    return [f"{name}: recorded {recorded}, here {now}" for name, recorded, now in pairs if recorded != now]


def make_again(project: Project, store: Store, head: Head, folder: Path, upto: int | None) -> list[Line]:
    """Make a run in a store of its own below `folder`; return how it compares, up to generation `upto` or to its end.

    Raises SiaFlowError where it cannot be run.
    """
    from sia_flow.loop.lab import Lab

    budget = dict(head.spec["spec"]["budget"])
    if upto is not None:
        budget["generations"] = max(1, upto)
    arms = [arm for arm in head.spec["spec"]["arms"] if arm["name"] == head.arm]
    experiment = experiment_of(head, arms=arms, seeds=[head.seed], budget=budget, approve=None)
    with Lab(experiment, project.root, Store(folder / "store")) as lab:
        if upto is not None:
            return list(_generations(store, head, lab, _grown(lab, upto)))
        result = _finished(store, head, lab)
        return [*_generations(store, head, lab, list(result.generations)), *_ending(store, head, result)]


def _grown(lab: Lab, upto: int) -> list[str]:
    """Return the ids of the generations up to one; the sealed split is not read."""
    from flows.improve import first_generation, grow
    from sia_flow.loop.arm import ArmState
    from sia_flow.loop.prepared import run_local

    state = ArmState(lab.spec.arms[0], lab.spec.seeds[0])
    first_generation(lab, run_local, state)
    if upto:
        grow(lab, run_local, state)
    return [generation.id for generation in state.history]


def _finished(store: Store, head: Head, lab: Lab) -> ArmResult:
    from flows.improve import control, improve
    from sia_flow.lineage.heads import heads
    from sia_flow.loop.arm import ArmState
    from sia_flow.loop.control import equal_draws
    from sia_flow.loop.equal import dearest
    from sia_flow.loop.prepared import run_local

    state = ArmState(lab.spec.arms[0], head.seed)
    if state.arm.turn == 0:
        return improve(lab, run_local, state)
    # It spends as much as the dearest of the recorded arms of its seed that have a budget of their own.
    others = [h for h in heads(store, head.experiment) if h.seed == head.seed and h.result and _leads(h)]
    leading = [result for other in others if (result := store.arm(str(other.result)))]
    if head.control == "best-of-n":
        return control(lab, run_local, state, equal_draws(lab.spec, store, leading))
    return improve(lab, run_local, state, None, dearest(lab.spec, leading))


def _leads(head: Head) -> bool:
    arms = {arm["name"]: arm for arm in head.spec["spec"]["arms"]} if head.spec else {}
    return head.control != "best-of-n" and arms.get(head.arm, {}).get("spend", "budget") == "budget"


def _generations(store: Store, head: Head, lab: Lab, made: list[str]) -> Iterator[Line]:
    for index, generation_id in enumerate(made):
        wanted = head.generations[index] if index < len(head.generations) else "none"
        new = lab.store.generation(generation_id)
        try:
            old = store.generation(wanted)
        except SiaFlowError:
            # Of an exported lock the ids are known, the records are not.
            old = None
        if old is not None:
            yield from (Line(f"generation {index} {what}", a, b) for what, a, b in _pairs(old, new))
        yield Line(f"generation {index} id", wanted, new.id)


def _pairs(old: Generation, new: Generation) -> Iterator[tuple[str, str, str]]:
    for what in ("scaffold", "adapter", "trajectories"):
        yield what, getattr(old, what) or "none", getattr(new, what) or "none"
    for split in ("train", "select"):
        before, after = (digest(getattr(side, split).model_dump(mode="json")) for side in (old, new))
        yield f"{split} rewards", before, after


def _ending(store: Store, head: Head, result: ArmResult) -> Iterator[Line]:
    old = store.arm(head.result) if head.result else None
    if old is not None:
        yield Line("incumbent", old.incumbent, result.incumbent)
        yield Line("sealed rewards", *(digest(side.sealed.model_dump(mode="json")) for side in (old, result)))
