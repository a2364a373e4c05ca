"""A task's verifier as the host sees it: the protocol, spoken to a process of its own.

Invariants: one answer that hangs, crashes or breaks the verifier costs that answer alone, and one try more; a verifier
that does so on one answer after the other stops the experiment, for then no score of it means anything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sia_flow.errors import VerifierError
from sia_flow.lineage.records import Split, Verdict
from sia_flow.protocols import Instance
from sia_flow.verify.apart import forms
from sia_flow.verify.apart.faults import ERROR, SAID, BrokenRequest
from sia_flow.verify.apart.forms import Drawn, DrawnInstance
from sia_flow.verify.apart.held import Bounds, Held, Place
from sia_flow.verify.apart.process import Request
from sia_flow.verify.apart.wire import Message
from sia_flow.verify.audit import Audit
from sia_flow.verify.timed import Fault, TimedCase, TimedPlan, Timing

Found = TypeVar("Found")
_log = logging.getLogger(__name__)


class ApartVerifier:
    """A task's verifier in its own process, which starts at once; `ready` waits until it answers.

    A context manager; `close` ends the process. The verdict of an answer that it cannot judge has one of the reasons in
    `faults`. Its methods raise what the task raised on purpose (`TaskError`,
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
        self._held = Held(place, self._bounds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> ApartVerifier:
        """Wait until the verifier is built. Raises what building it raised."""
        with self._lock:
            self._held.begun()
        return self

    def close(self) -> None:
        """End the process; a later question starts another."""
        with self._lock:
            self._held.stop()

    @property
    def pid(self) -> int | None:
        """Process id, none while there is no process."""
        return self._held.pid

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
        return self.score_all([(instance, output)])[0]

    def score_all(self, items: Sequence[tuple[Instance, NDArray[np.float64]]]) -> list[Verdict]:
        """Score several of them; one is on its way while another is judged."""
        return self._judged([({"do": "score", "drawn": _drawn(i)}, [output]) for i, output in items])

    def score_text(self, instance: Instance, answer: str) -> Verdict:
        """Score an answer that is a text."""
        return self.score_texts([(instance, answer)])[0]

    def score_texts(self, items: Sequence[tuple[Instance, str]]) -> list[Verdict]:
        """Score several of them; one is on its way while another is judged."""
        return self._judged([({"do": "score_text", "drawn": _drawn(i), "answer": a}, ()) for i, a in items])

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
        with self._lock:
            try:
                return self._twice(({"do": "fault"}, [output, expected]), self._bounds.judging, _fault)
            except BrokenRequest as broken:
                self._count(broken)
                return Fault(broken.reason, SAID)

    def verdict(self, timings: Sequence[Timing]) -> Verdict:
        """Return the verdict of a program that was right in every call."""
        return self._judged([({"do": "verdict", "timings": [forms.timing_to(one) for one in timings]}, ())])[0]

    def call_tool(self, name: str, instance: Instance, params: Mapping[str, Any]) -> Any:
        """Answer one of the task's tools. Raises ValueError where a scaffold asked what breaks it."""
        asked = {"do": "tool", "name": name, "drawn": _drawn(instance), "params": dict(params)}
        with self._lock:
            try:
                return self._twice((asked, ()), self._bounds.judging, lambda found: found.header["ok"])
            except BrokenRequest as broken:
                if broken.kind == "ValueError":
                    raise ValueError(broken.said) from broken
                self._count(broken)
                raise ValueError(f"{name}: the tool broke on this call") from broken

    def _judged(self, requests: Sequence[Request]) -> list[Verdict]:
        """Return a verdict for each answer, whatever the verifier does on some. Raises VerifierError."""
        verdicts: list[Verdict] = []
        with self._lock:
            while len(verdicts) < len(requests):
                try:
                    for found in self._held.ask_all(requests[len(verdicts) :], self._bounds.judging, _verdict):
                        verdicts += [self._failed(found) if isinstance(found, BrokenRequest) else self._sound(found)]
                except BrokenRequest as broken:
                    verdicts.append(self._again(requests[len(verdicts)], broken))
        return verdicts

    def _again(self, request: Request, broken: BrokenRequest) -> Verdict:
        """Judge an answer that cost the process once more: it may have been the machine's fault."""
        if broken.reason == ERROR:
            return self._failed(broken)
        try:
            return self._sound(self._held.ask(request, self._bounds.judging, _verdict))
        except BrokenRequest as again:
            return self._failed(again)

    def _sound(self, verdict: Verdict) -> Verdict:
        self._row = 0
        return verdict

    def _failed(self, broken: BrokenRequest) -> Verdict:
        self._count(broken)
        return Verdict(reward=self.floor, valid=False, reason=broken.reason, feedback=SAID)

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

    def _sure(self, header: Mapping[str, Any], read: Callable[[Message], Found]) -> Found:
        """Ask what hangs on no answer. Raises VerifierError."""
        with self._lock:
            try:
                return self._twice((header, ()), self._bounds.other, read)
            except BrokenRequest as broken:
                words = f"task {self.place.task}: its verifier fails in {header['do']}: {broken}"
                raise VerifierError(words, broken.kind) from broken

    def _twice(self, request: Request, limit: float, read: Callable[[Message], Found]) -> Found:
        """Ask, and once more where that cost the process. Raises BrokenRequest."""
        try:
            return self._held.ask(request, limit, read)
        except BrokenRequest as broken:
            if broken.reason == ERROR:
                raise
        return self._held.ask(request, limit, read)

    def _trait(self, name: str) -> Any:
        with self._lock:
            return self._held.traits[name]


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


def _verdict(found: Message) -> Verdict:
    return forms.verdict_from(found.header["ok"])


def _fault(found: Message) -> Fault | None:
    return forms.fault_from(found.header["ok"])
