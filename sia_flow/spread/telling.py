"""What a worker tells of its run, as messages, and their telling again to those who watch.

Invariant: a watcher hears of a worker's run what it would hear of its own; the end of an arm is recorded only after
those who watch have had their chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sia_flow.lineage.records import Generation
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Watcher
from sia_flow.spread.wire import Message

Send = Callable[[Message], object]


class Teller:
    """A watcher that sends; `seen` waits until the end of an arm was looked at."""

    def __init__(self, send: Send, seen: Callable[[], None]) -> None:
        self._send = send
        self._seen = seen

    def step_started(self, name: str, label: str, total: int | None) -> None:
        """Tell of it."""
        self._tell("step_started", name=name, label=label, total=total)

    def step_advanced(self, label: str, done: int, note: str = "") -> None:
        """Tell of it."""
        self._tell("step_advanced", label=label, done=done, note=note)

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        """Tell of it."""
        self._tell("step_ended", name=name, label=label, cached=cached)

    def training_step(self, arm: str, seed: int, index: int, step: int, metrics: Mapping[str, float]) -> None:
        """Tell of it."""
        self._tell("training_step", arm=arm, seed=seed, index=index, step=step, metrics=dict(metrics))

    def generation(self, arm: str, generation: Generation) -> None:
        """Tell of it by its id: it is in the store."""
        self._tell("generation", arm=arm, id=generation.id)

    def arm_ended(self, result: ArmResult) -> None:
        """Tell of it, and wait until it was looked at."""
        self._tell("arm_ended", result=result.model_dump(mode="json"))
        self._seen()

    def approval(self, word: str, text: str) -> None:
        """Tell of it."""
        self._tell("approval", word=word, text=text)

    def warning(self, text: str) -> None:
        """Tell of it."""
        self._tell("warning", text=text)

    def _tell(self, event: str, **fields: Any) -> None:
        self._send({"event": event, "fields": fields})


def tell_again(watcher: Watcher, store: Store, message: Message) -> None:
    """Tell a watcher what a worker's message says."""
    event, told = message["event"], message["fields"]
    if event == "generation":
        watcher.generation(told["arm"], store.generation(told["id"]))
    elif event == "arm_ended":
        watcher.arm_ended(ArmResult.model_validate(told["result"]))
    elif event == "step_started":
        watcher.step_started(told["name"], told["label"], told["total"])
    elif event == "step_advanced":
        watcher.step_advanced(told["label"], told["done"], told["note"])
    elif event == "step_ended":
        watcher.step_ended(told["name"], told["label"], cached=told["cached"])
    elif event == "training_step":
        watcher.training_step(told["arm"], told["seed"], told["index"], told["step"], told["metrics"])
    elif event == "approval":
        watcher.approval(told["word"], told["text"])
    elif event == "warning":
        watcher.warning(told["text"])
