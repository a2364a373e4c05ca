"""Foreign evaluators, asked for by a verifier that is confined and run in the sandbox by its host.

Invariant: what a verifier sends goes into the sandbox and nowhere else: no file of it is opened on the host, and what
it may ask for is what candidates get anyhow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sia_flow.errors import SiaFlowError
from sia_flow.foreign import runner
from sia_flow.foreign.base import ForeignVerifier
from sia_flow.foreign.programs import EvaluatorVerifier
from sia_flow.foreign.rows import RowsVerifier
from sia_flow.foreign.runner import ForeignRunner, Reply
from sia_flow.foreign.tables import TableVerifier
from sia_flow.verify.apart.kinds import own_error, own_kind
from sia_flow.verify.apart.wire import Message

FAMILIES: Mapping[str, type[ForeignVerifier]] = {
    "rows": RowsVerifier,
    "evaluator": EvaluatorVerifier,
    "table": TableVerifier,
    "foreign": ForeignVerifier,
}


class Host(Protocol):
    """Whom a verifier asks."""

    def ask(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> Message:
        """Ask something and return the answer."""


def family_of(verifier: object) -> dict[str, str] | None:
    """Return what is to be known of a foreign task's verifier: its family and its metric; None for a task of ours."""
    name = next((name for name, kind in FAMILIES.items() if isinstance(verifier, kind)), None)
    return None if name is None else {"family": name, "metric": str(getattr(verifier, "metric", ""))}


def run_on_the_host(host: Host) -> None:
    """Have the evaluators of this process run by its host."""
    runner.run_by(lambda files, packages: AskedRunner(host, files, packages))


class AskedRunner:
    """A runner in the host's sandbox."""

    def __init__(self, host: Host, files: Mapping[str, bytes], packages: Sequence[str]) -> None:
        self._host = host
        self._files = dict(files)
        self._packages = list(packages)
        self._number: int | None = None

    def call(self, kind: str, seed: int = 0, **params: Any) -> Reply:
        """Run one of the harness's kinds in a fresh process. Raises InfrastructureError."""
        if self._number is None:
            files = [np.frombuffer(data, dtype=np.uint8) for data in self._files.values()]
            opened = self._ask({"ask": "open", "names": list(self._files), "packages": self._packages}, files)
            self._number = int(opened)
        order = {"ask": "run", "runner": self._number, "kind": kind, "seed": seed, "params": params}
        return Reply(**self._ask(order))

    def close(self) -> None:
        """Leave the sandbox to the host, which ends it with this process."""

    def _ask(self, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> Any:
        found = self._host.ask(header, arrays).header
        if "raised" in found:
            raise own_error(*found["raised"])
        return found["reply"]


class Runners:
    """The host's side: the sandboxes that one verifier's process asked for."""

    def __init__(self) -> None:
        self._open: list[ForeignRunner] = []

    def answer(self, message: Message) -> dict[str, Any]:
        """Return what a verifier is told."""
        try:
            return {"reply": self._open_one(message) if message.header["ask"] == "open" else self._run(message.header)}
        except SiaFlowError as error:
            return {"raised": [own_kind(error), str(error)]}

    def close(self) -> None:
        """End the sandboxes."""
        while self._open:
            self._open.pop().close()

    def _open_one(self, message: Message) -> int:
        files = {str(n): a.tobytes() for n, a in zip(message.header["names"], message.arrays, strict=True)}
        self._open.append(ForeignRunner(files, [str(name) for name in message.header["packages"]]))
        return len(self._open) - 1

    def _run(self, header: Mapping[str, Any]) -> dict[str, Any]:
        chosen = self._open[int(header["runner"])]
        return asdict(chosen.call(str(header["kind"]), int(header["seed"]), **header["params"]))
