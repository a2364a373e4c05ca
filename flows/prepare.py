"""Data sets and base models: what a spec needs before its first rollout.

Each is made once, into a folder that a stage of `dvc.yaml` owns too, so that DVC can version what is here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sia_flow.plan.project import Project
from sia_flow.spec.models import Experiment
from sia_flow.verify.task import Task, load_task

Progress = Callable[[int, int, float], None]

TINY = "tiny-gpt-oss"


def prepare_data(project: Project, task: Task, data: str | None) -> Path:
    """Make a task's data set unless it is there; return its folder. Raises TaskError where it cannot be had."""
    target = task.data_dir(project.root, data)
    if not is_prepared(target):
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        task.prepare(target.name, partial)
        _move(partial, target)
    return target


def is_prepared(folder: Path) -> bool:
    """Say whether a data set is there; its meta file is written last."""
    return (folder / "meta.json").is_file()


def prepare_base(project: Project, base: str, task: Task, progress: Progress | None = None) -> Path:
    """Build the tiny base model unless it is there; return its folder. A path to a checkpoint is left as it is."""
    from sia_flow.policy.bases import resolve_base
    from sia_flow.policy.tiny import TinyConfig, build_tiny

    target = project.models / TINY
    if base == TINY and not (target / "config.json").is_file():
        partial = target.with_name(f".{TINY}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        config = TinyConfig()
        build_tiny(task.pairs(config.seed, config.pairs), partial, config, progress)
        _move(partial, target)
    return resolve_base(base, project.models)


def prepare_experiment(project: Project, experiment: Experiment, progress: Progress | None = None) -> None:
    """Make all that an experiment needs."""
    task = load_task(project.root, experiment.spec.task.name)
    prepare_data(project, task, experiment.spec.task.data)
    prepare_base(project, experiment.spec.policy.base, task, progress)


def _move(partial: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
