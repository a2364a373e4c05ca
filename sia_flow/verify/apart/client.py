"""A task's verifier as the host sees it: the protocol, spoken to a process of its own.

Invariants: one answer that hangs, crashes or breaks the verifier costs that answer alone, and one try more; a verifier
that does so on one answer after the other stops the experiment, for then no score of it means anything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sia_flow.errors import InfrastructureError, SiaFlowError, VerifierError
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import Instance
from sia_flow.verify.apart import forms, ground
from sia_flow.verify.apart.faults import CRASH, ERROR, MEMORY, SAID, TIMEOUT, BrokenRequest
from sia_flow.verify.apart.forms import Drawn, DrawnInstance
from sia_flow.verify.apart.kinds import own_error
from sia_flow.verify.apart.process import Ended, Late, Process
from sia_flow.verify.apart.runners import Runners
from sia_flow.verify.apart.wire import Message, WireError
from sia_flow.verify.audit import Audit
from sia_flow.verify.timed import Fault, TimedCase, TimedPlan, Timing

TRIES = 2
Found = TypeVar("Found")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a verifier may use. Seconds of processor time, bytes."""

    judging: float = 60.0
    """For one answer."""
    other: float = 1200.0
    """For anything else: its start, instances, baselines."""
    memory: int = field(default_factory=ground.memory)
    run: int = 8
    """Answers in a row that it may fail on; at this many it is the verifier that is broken."""


class Place(NamedTuple):
    """Which verifier it is."""

    root: Path
    task: str
    mode: str
    data: Path


class ApartVerifier:
    """A task's verifier in its own process, which starts at once; `ready` waits until it answers.

    A context manager; `close` ends the process. Its methods raise what the task raised on purpose (`TaskError`,
    `InfrastructureError` and the like), and VerifierError where it breaks.
    """

    def __init__(self, place: Place, bounds: Bounds | None = None, warn: Callable[[str], None] | None = None) -> None:
        self.place = place
        self.faults: list[str] = []
        """What happened on the answers that it could not judge, the last ones."""
        self._bounds = bounds or Bounds()
        self._warn = warn or _log.warning
        self._lock = threading.RLock()
        self._drawn: dict[tuple[Split, int, int], tuple[DrawnInstance, ...]] = {}
        self._row = 0
        self._runners = Runners()
        self._traits: dict[str, Any] = {}
        self._started = False
        self._process: Process | None = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> ApartVerifier:
        """Wait until the verifier is built. Raises what building it raised."""
        with self._lock:
            self._begun()
        return self

    def close(self) -> None:
        """End the process; a later question starts another."""
        with self._lock:
            self._stop()

    @property
    def pid(self) -> int | None:
        """Process id, none while there is no process."""
        return self._process.pid if self._process else None

    @property
    def confined(self) -> Mapping[str, int | bool]:
        """What holds the process: `landlock`, its ABI or 0, and `seccomp`."""
        return dict(self._trait("confined"))

    @property
    def foreign(self) -> Mapping[str, str] | None:
        """`family` and `metric` of an imported task's verifier, None for another one."""
        found: Mapping[str, str] | None = self._trait("foreign")
        return found

    @property
    def digest(self) -> str:
        """Hash of the verifier's source and its parameters."""
        return str(self._trait("digest"))

    @property
    def data_digest(self) -> str:
        """Hash of the data set that it reads."""
        return str(self._trait("data_digest"))

    @property
    def floor(self) -> float:
        """Reward that a null agent reaches at most."""
        found: float = self._trait("floor")
        return found

    @property
    def guards_block(self) -> bool:
        """Whether a broken guard refuses a generation."""
        return bool(self._trait("guards_block"))

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` instances of a split, without their private part."""
        asked = {"do": "instances", "split": split, "count": count, "seed": seed}
        with self._lock:
            if (split, count, seed) not in self._drawn:
                self._drawn[split, count, seed] = self._sure(asked, lambda found: _instances(found, split, count, seed))
            return self._drawn[split, count, seed]

    def visible(self, instance: Instance) -> Instance:
        """Return the twin that an agent may score itself on."""
        drawn = _own(instance).drawn
        twin = replace(drawn, twins=drawn.twins + 1)
        asked = {"do": "visible", "drawn": forms.drawn_to(twin)}
        return self._sure(asked, lambda found: forms.instance_from(found.header["ok"], found.arrays, twin))

    def audits(self, split: Split, count: int, seed: int) -> list[Audit]:
        """Return what may be told of the instances' private part."""
        asked = {"do": "audit", "split": split, "count": count, "seed": seed}
        return self._sure(asked, lambda found: [Audit(str(d), tuple(leaks)) for d, leaks in found.header["ok"]])

    def score(self, instance: Instance, output: NDArray[np.float64]) -> Verdict:
        """Score what a candidate program returned."""
        return self._judged({"do": "score", "drawn": _drawn(instance)}, [output])

    def score_text(self, instance: Instance, answer: str) -> Verdict:
        """Score an answer that is a text."""
        return self._judged({"do": "score_text", "drawn": _drawn(instance), "answer": answer})

    def baselines(self, instance: Instance) -> Mapping[str, Verdict]:
        """Return the verdicts of the task's published baselines, by name."""
        asked = {"do": "baselines", "drawn": _drawn(instance)}
        return self._sure(asked, lambda found: {n: forms.verdict_from(v) for n, v in found.header["ok"].items()})

    def guards(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return the guard margins of mean metrics; negative means broken."""
        asked = {"do": "guards", "metrics": {name: forms.number_to(value) for name, value in metrics.items()}}
        return self._sure(asked, lambda found: {n: forms.number_from(v) for n, v in found.header["ok"].items()})

    def tools(self) -> ApartTools | None:
        """Return the tools that scaffolds have, answered in the same process; None where the task has none."""
        names = self._trait("tools")
        return None if names is None else ApartTools(self, tuple(names))

    def reference(self) -> str:
        """Return the program that answers of a timed task are compared with."""
        return self._sure({"do": "reference"}, lambda found: str(found.header["ok"]))

    def plan(self, instance: Instance) -> TimedPlan:
        """Return what a timed program is called on."""
        asked = {"do": "plan", "drawn": _drawn(instance)}
        return self._sure(asked, lambda found: forms.plan_from(found.header["ok"]))

    def inputs(self, case: TimedCase, seed: int) -> Mapping[str, NDArray[Any]]:
        """Draw the inputs of a timed call."""
        asked = {"do": "inputs", "case": forms.case_to(case), "seed": seed}
        return self._sure(asked, lambda found: dict(zip(found.header["ok"], found.arrays, strict=True)))

    def fault(self, output: NDArray[Any], expected: NDArray[Any]) -> Fault | None:
        """Return what is wrong with an output beside the reference's, or None."""
        try:
            return self._tried({"do": "fault"}, [output, expected], lambda m: forms.fault_from(m.header["ok"]))
        except BrokenRequest as broken:
            return Fault(broken.reason, SAID)

    def verdict(self, timings: Sequence[Timing]) -> Verdict:
        """Return the verdict of a program that was right in every call."""
        return self._judged({"do": "verdict", "timings": [forms.timing_to(one) for one in timings]})

    def call_tool(self, name: str, instance: Instance, params: Mapping[str, Any]) -> Any:
        """Answer one of the task's tools. Raises ValueError where a scaffold asked what breaks it."""
        asked = {"do": "tool", "name": name, "drawn": _drawn(instance), "params": dict(params)}
        try:
            return self._tried(asked, (), lambda found: found.header["ok"], mine=("ValueError",))
        except BrokenRequest as broken:
            refused = str(broken) if broken.kind == "ValueError" else f"{name}: the tool broke on this call"
            raise ValueError(refused) from broken

    def _judged(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> Verdict:
        try:
            return self._tried(header, arrays, lambda found: forms.verdict_from(found.header["ok"]))
        except BrokenRequest as broken:
            return Verdict(reward=self.floor, valid=False, reason=broken.reason, feedback=SAID)

    def _tried(
        self,
        header: Mapping[str, Any],
        arrays: Sequence[NDArray[Any]],
        read: Callable[[Message], Found],
        mine: Sequence[str] = (),
    ) -> Found:
        """Ask what hangs on an answer; failures count, but for exceptions of these kinds. Raises BrokenRequest."""
        with self._lock:
            try:
                found = self._twice(header, arrays, read, self._bounds.judging)
            except BrokenRequest as broken:
                if broken.kind not in mine:
                    self._count(broken)
                raise
            self._row = 0
            return found

    def _sure(self, header: Mapping[str, Any], read: Callable[[Message], Found]) -> Found:
        """Ask what hangs on no answer. Raises VerifierError."""
        with self._lock:
            try:
                return self._twice(header, (), read, self._bounds.other)
            except BrokenRequest as broken:
                words = f"task {self.place.task}: its verifier fails in {header['do']}: {broken}"
                raise VerifierError(words, broken.kind) from broken

    def _count(self, broken: BrokenRequest) -> None:
        """Put a failure on an answer on record; raise VerifierError where it is one of many in a row."""
        self.faults = [*self.faults[-99:], f"{broken} [{broken.reason}]"]
        self._row += 1
        if self._row >= self._bounds.run:
            raise VerifierError(
                f"task {self.place.task}: its verifier failed on {self._row} answers in a row, the last time so: "
                f"{broken}. Scores that it gives mean nothing; mend it, and run the same command again",
                broken.kind,
            ) from broken
        self._warn(f"task {self.place.task}: its verifier failed on an answer ({broken.reason}): {broken}")

    def _twice(
        self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]], read: Callable[[Message], Found], limit: float
    ) -> Found:
        """Ask, and once more where the process was lost: the machine may be at fault. Raises BrokenRequest."""
        for _ in range(TRIES - 1):
            try:
                return self._once(header, arrays, read, limit)
            except BrokenRequest as broken:
                if broken.reason == ERROR:
                    raise
        return self._once(header, arrays, read, limit)

    def _once(
        self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]], read: Callable[[Message], Found], limit: float
    ) -> Found:
        process = self._begun()
        healthy = False
        try:
            message = process.ask(header, arrays, limit, self._runners.answer)
            self._raise(message.header)
            found = read(message)
            healthy = True
        except Ended as ended:
            raise BrokenRequest(CRASH, f"its process ended ({ended})") from ended
        except Late as late:
            raise BrokenRequest(TIMEOUT, f"no answer within {limit:g} s of processor time") from late
        except WireError as error:
            healthy = True
            raise BrokenRequest(ERROR, f"it was to be given {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenRequest(CRASH, f"its process sent what is no answer ({type(error).__name__})") from error
        except BrokenRequest as broken:
            healthy = broken.reason == ERROR
            raise
        except SiaFlowError:
            healthy = True
            raise
        finally:
            if not healthy:
                self._stop()
        return found

    def _raise(self, header: Mapping[str, Any]) -> None:
        """Raise what the process says went wrong."""
        if "error" not in header:
            return
        error = header["error"]
        if error["own"]:
            raise own_error(error["own"], error["text"], error["reason"])
        reason = MEMORY if error["kind"] in {"MemoryError", "_ArrayMemoryError"} else ERROR
        text = error["text"] if error["kind"] == "ValueError" else f"{error['text']} ({error['where']})"
        raise BrokenRequest(reason, text, error["kind"])

    def _trait(self, name: str) -> Any:
        with self._lock:
            if not self._traits:
                self._begun()
            return self._traits[name]

    def _begun(self) -> Process:
        """Return a process that has built its verifier."""
        if self._process is None:
            self._process = self._start()
        if not self._started:
            healthy = False
            try:
                self._meet(self._process.hear(self._bounds.other))
                healthy = True
            except (Ended, Late, BrokenRequest) as error:
                why = str(error) or "it does not answer"
                raise _start_error(self.place.task, error, why) from error
            finally:
                if not healthy:
                    self._stop()
            self._started = True
        return self._process

    def _meet(self, message: Message) -> None:
        self._raise(message.header)
        traits = message.header["ok"]
        same = all(traits[name] == self._traits.get(name, traits[name]) for name in ("digest", "data_digest"))
        if not same:
            raise VerifierError(
                f"task {self.place.task}: its verifier or its data changed while it ran; run the same command again"
            )
        self._traits = traits

    def _start(self) -> Process:
        place = self.place
        orders = {"serve": "sia_flow.verify.apart.child", "root": str(place.root.resolve()), "task": place.task}
        orders |= {"mode": place.mode, "data": str(place.data.resolve())}
        self._started = False
        try:
            return Process(orders, place.root.resolve(), place.task, place.data, self._bounds.memory)
        except (OSError, Ended, Late) as error:
            raise InfrastructureError(f"the verifier's process did not start: {error}") from error

    def _stop(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
            self._runners.close()


class ApartTools:
    """A task's own tools for scaffolds, answered in the verifier's process."""

    def __init__(self, verifier: ApartVerifier, names: Sequence[str]) -> None:
        self.names = names
        self._verifier = verifier

    def call(self, name: str, instance: Instance, params: Mapping[str, Any]) -> Any:
        """Return a JSON answer; ValueError says what is wrong with the call."""
        return self._verifier.call_tool(name, instance, params)


def _own(instance: Instance) -> DrawnInstance:
    if not isinstance(instance, DrawnInstance):
        raise TypeError(f"{instance.id} was not made by a verifier that runs apart")
    return instance


def _drawn(instance: Instance) -> list[Any]:
    return forms.drawn_to(_own(instance).drawn)


def _instances(found: Message, split: Split, count: int, seed: int) -> tuple[DrawnInstance, ...]:
    arrays = iter(found.arrays)
    return tuple(
        forms.instance_from(value, [next(arrays) for _ in value["names"]], Drawn(split, count, seed, index))
        for index, value in enumerate(found.header["ok"])
    )


def _start_error(task: str, error: Exception, why: str) -> SiaFlowError:
    if isinstance(error, BrokenRequest) and error.reason == ERROR:
        return VerifierError(f"task {task}: its verifier cannot be made: {why}", error.kind)
    return InfrastructureError(f"task {task}: the process of its verifier did not start: {why}")
