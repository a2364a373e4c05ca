"""The one process that a client speaks to: started, met, asked, and started again where it was lost.

Invariant: a process that did not answer as it should is killed before anything else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sia_flow.errors import InfrastructureError, SiaFlowError, VerifierError
from sia_flow.verify.apart import ground
from sia_flow.verify.apart.faults import CRASH, ERROR, MEMORY, TIMEOUT, BrokenRequest
from sia_flow.verify.apart.kinds import own_error
from sia_flow.verify.apart.process import Ended, Late, Process, Request
from sia_flow.verify.apart.runners import Runners
from sia_flow.verify.apart.wire import Message, WireError

SERVE = "sia_flow.verify.apart.child"
OUT_OF_MEMORY = ("MemoryError", "_ArrayMemoryError")

Found = TypeVar("Found")


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


class Held:
    """A verifier's process, which starts at once. Not for several threads at a time."""

    def __init__(self, place: Place, bounds: Bounds) -> None:
        self._place = place
        self._bounds = bounds
        self._runners = Runners()
        self._traits: dict[str, Any] = {}
        self._met = False
        self._process: Process | None = self._start()

    @property
    def pid(self) -> int | None:
        """Process id, none while there is no process."""
        return self._process.pid if self._process else None

    @property
    def traits(self) -> Mapping[str, Any]:
        """What the verifier said of itself when it was built. Raises what building it raised."""
        if not self._traits:
            self.begun()
        return self._traits

    def begun(self) -> Process:
        """Return a process that has built its verifier. Raises what building it raised."""
        if self._process is None:
            self._process = self._start()
        if self._met:
            return self._process
        try:
            self._meet(self._process.hear(self._bounds.other))
        except (Ended, Late, BrokenRequest) as error:
            raise self._start_error(error) from error
        finally:
            if not self._met:
                self.stop()
        return self._process

    def ask(self, request: Request, limit: float, read: Callable[[Message], Found]) -> Found:
        """Ask one thing, once, and return what `read` makes of the reply. Raises BrokenRequest."""
        found = next(self.ask_all([request], limit, read))
        if isinstance(found, BrokenRequest):
            raise found
        return found

    def ask_all(
        self, requests: Iterable[Request], limit: float, read: Callable[[Message], Found]
    ) -> Iterator[Found | BrokenRequest]:
        """Ask several things, once, and yield what comes of each, an exception of the verifier's among it.

        Raises BrokenRequest for the first one that cost the process, and what the task raised on purpose.
        """
        if self._process is not None and not self._process.idle:
            # Whoever asked last was interrupted.
            self.stop()
        process = self.begun()
        sound = False
        try:
            for message in process.ask_all(requests, limit, self._runners.answer):
                yield _opened(message) or read(message)
            sound = True
        except Ended as ended:
            raise BrokenRequest(CRASH, f"its process ended ({ended})") from ended
        except Late as late:
            raise BrokenRequest(TIMEOUT, f"no answer within {limit:g} s of processor time") from late
        except WireError as error:
            sound = True
            raise BrokenRequest(ERROR, f"it was to be given {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenRequest(CRASH, f"its process sent what is no answer ({type(error).__name__})") from error
        except (GeneratorExit, SiaFlowError):
            sound = process.idle
            raise
        finally:
            if not sound:
                self.stop()

    def stop(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._process.close()
            self._process = None
        self._met = False
        self._runners.close()

    def _meet(self, message: Message) -> None:
        broken = _opened(message)
        if broken is not None:
            raise broken
        traits = message.header["ok"]
        if any(traits[name] != self._traits.get(name, traits[name]) for name in ("digest", "data_digest")):
            raise VerifierError(
                f"task {self._place.task}: its verifier or its data changed while it ran; run the same command again"
            )
        self._traits = traits
        self._met = True

    def _start(self) -> Process:
        place, root = self._place, self._place.root.resolve()
        orders = {"serve": SERVE, "root": str(root), "task": place.task, "mode": place.mode}
        orders["data"] = str(place.data.resolve())
        try:
            return Process(orders, root, place.task, place.data, self._bounds.memory)
        except (OSError, Ended, Late) as error:
            raise InfrastructureError(f"the verifier's process did not start: {error}") from error

    def _start_error(self, error: Exception) -> SiaFlowError:
        words = str(error) or "it does not answer"
        if isinstance(error, BrokenRequest) and error.reason == ERROR:
            return VerifierError(f"task {self._place.task}: its verifier cannot be made: {words}", error.kind)
        return InfrastructureError(f"task {self._place.task}: the process of its verifier did not start: {words}")


def _opened(message: Message) -> BrokenRequest | None:
    """Return the exception that a reply tells of. Raises BrokenRequest for want of memory, and errors of our own."""
    error = message.header.get("error")
    if error is None:
        return None
    if error["own"]:
        raise own_error(error["own"], error["text"], error["reason"])
    if error["kind"] in OUT_OF_MEMORY:
        raise BrokenRequest(MEMORY, error["text"], error["kind"])
    return BrokenRequest(ERROR, f"{error['text']} ({error['where']})", error["kind"])
