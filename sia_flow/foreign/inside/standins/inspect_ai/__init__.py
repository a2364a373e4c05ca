"""What a task file takes from Inspect AI: tasks, samples and scorers work, solvers and models are inert.

The scorers are written from their documented behaviour. A scorer that asks a model says so when it is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from ._inert import Inert
from .dataset import MemoryDataset, Sample
from .scorer import Target, as_number

__all__ = ["Epochs", "Sample", "Target", "Task", "TaskState", "as_number", "make_task", "run", "task"]

TASKS: dict[str, Callable[..., Task]] = {}
Epochs = Inert()


class Task:
    """A data set with scorers; how it is solved is our scaffold's business."""

    def __init__(
        self, dataset: Iterable[Sample] | None = None, scorer: Any = None, name: str | None = None, **_unused: Any
    ) -> None:
        self.dataset = MemoryDataset(list(dataset or []))
        self.scorers = list(scorer) if isinstance(scorer, Sequence) else [] if scorer is None else [scorer]
        self.name = name or ""


class TaskState:
    """What a scorer may read: the sample and one completion."""

    def __init__(self, sample: Sample, completion: str) -> None:
        self.sample_id = sample.id
        self.input = sample.input
        self.input_text = sample.text
        self.choices = sample.choices
        self.metadata = sample.metadata
        self.target = Target(sample.target)
        self.output = _Output(completion)
        self.messages: list[Any] = []
        self.store: dict[str, Any] = {}


class _Output:
    def __init__(self, completion: str) -> None:
        self.completion = completion


def task(*arguments: Any, **_settings: Any) -> Any:
    """Register a task function; also with settings, as `@task(name=...)`."""

    def register(function: Callable[..., Task]) -> Callable[..., Task]:
        TASKS[function.__name__] = function
        return function

    return register(arguments[0]) if arguments and callable(arguments[0]) else register


def make_task(module: Any, name: str) -> Task:
    """Return the task that a file defines under a name, or its only one. Raises LookupError."""
    del module
    if not TASKS:
        raise LookupError("the file has no function with @task")
    if not name and len(TASKS) > 1:
        raise LookupError(f"the file has several tasks; name one of {', '.join(sorted(TASKS))}")
    if name and name not in TASKS:
        raise LookupError(f"the file has no task {name!r}; it has {', '.join(sorted(TASKS))}")
    chosen = name or next(iter(TASKS))
    made = TASKS[chosen]()
    made.name = made.name or chosen
    return made


def run(found: Any) -> Any:
    """Return what a coroutine returns that waits for nothing outside; other values are returned as they are."""
    if not inspect.iscoroutine(found):
        return found
    return _drive(found)


def _drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("the scorer waits for something that is not in the sandbox (a model, a tool, a network)")
