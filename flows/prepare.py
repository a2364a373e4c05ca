"""Data sets and base models: what a spec needs before its first rollout.

Each is made once, into a folder that a stage of `dvc.yaml` owns too, so that DVC can version what is here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sia_flow.errors import StoreError
from sia_flow.plan.project import Project
from sia_flow.spec.models import Experiment
from sia_flow.verify.manifest import Base
from sia_flow.verify.task import Task, load_task

if TYPE_CHECKING:
    from sia_flow.policy.tiny import TinyConfig

Progress = Callable[[int, int, float], None]

TINY = "tiny-gpt-oss"


def prepare_data(project: Project, task: Task, data: str | None) -> Path:
    """Make a task's data set unless it is there; return its folder. Raises TaskError where it cannot be had."""
    target = task.data_dir(project.root, data)
    if not is_prepared(target):
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        task.prepare(task.data_source(project.root, data), partial)
        _move(partial, target)
    return target


def is_prepared(folder: Path) -> bool:
    """Say whether a data set is there; its meta file is written last."""
    return (folder / "meta.json").is_file()


def data_notes(folder: Path) -> list[str]:
    """Return what a prepared data set says about itself to people: what was dropped or capped."""
    notes = json.loads((folder / "meta.json").read_bytes()).get("notes", [])
    return [str(note) for note in notes]


def prepare_base(
    project: Project, base: str, task: Task, progress: Progress | None = None, data: str | None = None
) -> Path:
    """Build the tiny base, or the task's own, unless it is there; return its folder.

    The task's own is made of `data` (None: the default set). A path to a checkpoint is left as it is.
    """
    from sia_flow.policy.bases import resolve_base
    from sia_flow.policy.tiny import TinyConfig, build_tiny

    target, own = project.models / base, task.manifest.base
    if not (target / "config.json").is_file():
        partial = target.with_name(f".{target.name}.partial")
        if own is not None and base == own.name:
            shutil.rmtree(partial, ignore_errors=True)
            config, pairs = own_config(own), task.base_pairs(prepare_data(project, task, data), TinyConfig().seed)
            build_tiny(pairs, partial, config, progress)
            _move(partial, target)
        elif base == TINY:
            shutil.rmtree(partial, ignore_errors=True)
            config = TinyConfig()
            build_tiny(task.pairs(config.seed, config.pairs), partial, config, progress)
            _move(partial, target)
    return resolve_base(base, project.models)


def own_config(own: Base) -> TinyConfig:
    """Return the size and the schedule of a task's own base."""
    from sia_flow.policy.tiny import TinyConfig
    from sia_flow.policy.warmup import Schedule

    size = {"hidden": own.hidden, "intermediate": own.hidden, "context": own.context, "pieces": own.pieces}
    return TinyConfig(tokenizer=own.tokenizer, schedule=Schedule(steps=own.steps), **size)


def prepare_experiment(project: Project, experiment: Experiment, progress: Progress | None = None) -> None:
    """Make all that an experiment needs."""
    task = load_task(project.root, experiment.spec.task.name)
    prepare_data(project, task, experiment.spec.task.data)
    prepare_base(project, experiment.spec.policy.base, task, progress, experiment.spec.task.data)


def _move(partial: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            # DVC, or the user, keeps the data elsewhere: what the link points to is theirs.
            target.unlink()
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise StoreError(f"cannot put {partial.name} in place as {target}: {error.strerror}; make room") from error
