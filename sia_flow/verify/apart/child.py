"""The verifier's own process: it builds the task's real verifier and answers the host, one request after the other.

Invariants: instances, with their private part, are made and stay here; the host names them by how they were drawn. What
goes wrong is answered with its kind and its last line, and the next request is served.
"""

from __future__ import annotations

import functools
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from sia_flow.protocols import Instance
from sia_flow.verify.apart import forms
from sia_flow.verify.apart.forms import Drawn
from sia_flow.verify.apart.kinds import own_kind
from sia_flow.verify.apart.runners import family_of, run_on_the_host
from sia_flow.verify.apart.wire import Message, RoomReader, WireError, pack, unpack
from sia_flow.verify.audit import audit
from sia_flow.verify.manifest import read_manifest
from sia_flow.verify.task import Task

Reply = tuple[Any, Sequence[NDArray[Any]]]
"""A plain value, and arrays."""
LINE = 500


class Gone(Exception):  # noqa: N818 - the end of the work, not a fault
    """The host has hung up."""


class Line:
    """The connection to the host."""

    def __init__(self, connection: socket.socket, room: int | None) -> None:
        self._connection = connection
        self._room = None if room is None else RoomReader(room)
        self._ahead: deque[Message] = deque()

    def say(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
        """Send a message. Raises WireError where it cannot be one, before anything is sent."""
        for part in pack(header, arrays):
            self._connection.sendall(part)

    def hear(self) -> Message:
        """Return the host's next request. Raises Gone."""
        return self._ahead.popleft() if self._ahead else unpack(self._fill, self._room)

    def ask(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> Message:
        """Ask the host for something in the middle of a request."""
        self.say(header, arrays)
        while True:
            message = unpack(self._fill, self._room)
            if "do" not in message.header:
                return message
            # The next request came before the answer.
            self._ahead.append(message)

    def _fill(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = self._connection.recv_into(view[done:])
            if not count:
                raise Gone
            done += count


def serve(connection: socket.socket, orders: Mapping[str, Any], confined: Mapping[str, Any]) -> None:
    """Build the verifier that the orders name and answer until the host hangs up."""
    line = Line(connection, orders["room"])
    try:
        desk = _attempt(lambda: (Desk(orders, line), ()), line)
        if not isinstance(desk, Desk):
            return
        _answer(line, lambda: ({**desk.traits(), "confined": dict(confined)}, ()))
        while True:
            header, arrays = line.hear()
            _answer(line, lambda: desk.do(header, arrays))  # noqa: B023 - called at once
    except (Gone, ConnectionError):
        return


def _answer(line: Line, work: Callable[[], Reply]) -> None:
    _attempt(work, line, answer=True)


def _attempt(work: Callable[[], Reply], line: Line, *, answer: bool = False) -> Any:
    """Do some work and return its value; tell the host of it where it is to be answered, and of any failure."""
    try:
        value, arrays = work()
        if answer:
            line.say({"ok": value}, arrays)
    except (Gone, ConnectionError):
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a task raises is told, and the next request served
        line.say({"error": describe(error)})
        return None
    return value


def describe(error: Exception) -> dict[str, Any]:
    """Return what the host is told of an exception."""
    own = own_kind(error)
    text = str(error) if own else "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, WireError):
        text = f"it gave the host {error}"
    # An answer may well have a part in the text.
    printable = "".join(char if char.isprintable() else " " for char in text)
    return {
        "own": own,
        "kind": type(error).__name__,
        "text": printable if own else printable[:LINE],
        "where": where,
        "reason": str(getattr(error, "reason", "")),
    }


class Desk:
    """The real verifier, and what each request is to it."""

    def __init__(self, orders: Mapping[str, Any], line: Line) -> None:
        root, name = Path(orders["root"]), orders["task"]
        _show_tasks(root)
        run_on_the_host(line)
        self._task = Task(root, read_manifest(root / "tasks" / name / "task.yaml"))
        self._verifier: Any = self._task.build(orders["mode"], Path(orders["data"]))
        self._drawn = functools.lru_cache(maxsize=None)(self._verifier.instances)
        self._twins: dict[Drawn, Instance] = {}

    @functools.cached_property
    def _tools(self) -> Any:
        return self._task.tools(self._verifier)

    def traits(self) -> dict[str, Any]:
        """Return what the host is told at once."""
        verifier = self._verifier
        tools = self._tools
        return {
            "digest": str(verifier.digest),
            "data_digest": str(verifier.data_digest),
            "floor": verifier.floor,
            "guards_block": bool(verifier.guards_block),
            "tools": None if tools is None else list(tools.names),
            "foreign": family_of(verifier),
        }

    def do(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> Reply:
        """Do what a request names."""
        return cast("Reply", getattr(self, f"do_{header['do']}")(header, arrays))

    def do_instances(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Make instances and return what candidates may see of them."""
        found = self._drawn(header["split"], header["count"], header["seed"])
        return [forms.instance_to(one) for one in found], [a for one in found for a in one.arrays.values()]

    def do_audit(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Say of instances what may be said of their private part."""
        found = self._drawn(header["split"], header["count"], header["seed"])
        return [list(audit(one)) for one in found], ()

    def do_visible(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Make the visible twin of an instance."""
        twin = self._instance(forms.drawn_from(header["drawn"]))
        return forms.instance_to(twin), list(twin.arrays.values())

    def do_score(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> Reply:
        """Score an array."""
        return forms.verdict_to(self._verifier.score(self._named(header), arrays[0])), ()

    def do_score_text(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Score a text."""
        return forms.verdict_to(self._verifier.score_text(self._named(header), header["answer"])), ()

    def do_baselines(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Return the baselines' verdicts."""
        found = self._verifier.baselines(self._named(header))
        return {name: forms.verdict_to(verdict) for name, verdict in found.items()}, ()

    def do_guards(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Return the guards' margins."""
        metrics = {name: forms.number_from(value) for name, value in header["metrics"].items()}
        return {name: forms.number_to(value) for name, value in self._verifier.guards(metrics).items()}, ()

    def do_tool(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Answer one of the task's tools."""
        return self._tools.call(header["name"], self._named(header), header["params"]), ()

    def do_reference(self, _: Mapping[str, Any], __: Sequence[NDArray[Any]]) -> Reply:
        """Return the reference program of a timed task."""
        return self._verifier.reference(), ()

    def do_plan(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Return what a program is called on."""
        return forms.plan_to(self._verifier.plan(self._named(header))), ()

    def do_inputs(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Draw the inputs of a call."""
        found = self._verifier.inputs(forms.case_from(header["case"]), header["seed"])
        return list(found), list(found.values())

    def do_fault(self, _: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> Reply:
        """Compare an output with the reference's."""
        return forms.fault_to(self._verifier.fault(*arrays)), ()

    def do_verdict(self, header: Mapping[str, Any], _: Sequence[NDArray[Any]]) -> Reply:
        """Return the verdict of a program's times."""
        timings = [forms.timing_from(value) for value in header["timings"]]
        return forms.verdict_to(self._verifier.verdict(timings)), ()

    def _named(self, header: Mapping[str, Any]) -> Instance:
        return self._instance(forms.drawn_from(header["drawn"]))

    def _instance(self, drawn: Drawn) -> Instance:
        if not drawn.twins:
            return self._drawn(drawn.split, drawn.count, drawn.seed)[drawn.index]
        if drawn not in self._twins:
            self._twins[drawn] = self._verifier.visible(self._instance(replace(drawn, twins=drawn.twins - 1)))
        return self._twins[drawn]


def _show_tasks(root: Path) -> None:
    """Make `tasks` the project's folder; the project itself cannot be searched from here."""
    spec = ModuleSpec("tasks", None, is_package=True)
    spec.submodule_search_locations = [str(root / "tasks")]
    sys.modules["tasks"] = module_from_spec(spec)
