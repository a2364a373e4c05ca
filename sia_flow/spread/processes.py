"""Workers as processes of this machine, forked from a nursery.

Invariant: all of them are gone when the launcher is closed, and when the process that holds it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sia_flow.apart import start_apart
from sia_flow.spec.models import Experiment
from sia_flow.spread.launcher import Ended
from sia_flow.spread.ticket import Ticket

LAST = 2000
"""Characters of the log that are shown of a worker that could not begin."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def preloads(experiment: Experiment) -> tuple[str, ...]:
    """Return the modules that every worker of an experiment will import."""
    own = ["sia_flow.sandbox.open", "scipy.stats", "numba"]
    if experiment.spec.policy.type == "local":
        own += ["sia_flow.policy.local", "transformers", "peft"]
    if any("weights" in arm.levers for arm in experiment.spec.arms):
        own += ["sia_flow.training.trainer", "sia_flow.training.select"]
    return tuple(own)


class Processes:
    """A launcher on this machine; `log` is the file that takes what workers print."""

    host = None

    def __init__(self, root: Path, log: Path, jobs: int, modules: Sequence[str] = ()) -> None:
        self.seats = jobs
        self._root = root
        self._log = log
        self._modules = tuple(modules)
        self._names: set[str] = set()
        self._said = b""
        self._nursery: subprocess.Popen[bytes] | None = None

    def begin(self) -> subprocess.Popen[bytes]:
        """Start the nursery, if it is not there, so that its imports are done when the first worker is wanted."""
        if self._nursery is None:
            self._nursery = self._open()
        return self._nursery

    def launch(self, ticket: Ticket) -> None:
        """Fork a worker."""
        nursery = self.begin()
        assert nursery.stdin is not None
        with suppress(BrokenPipeError):
            nursery.stdin.write(ticket.to_json().encode() + b"\n")
        self._names.add(ticket.name)

    def ended(self) -> list[Ended]:
        """Return the workers that ended; all of them where the nursery did."""
        if self._nursery is None:
            return []
        assert self._nursery.stdout is not None
        while data := self._nursery.stdout.read(1 << 16):
            self._said += data
        *lines, self._said = self._said.split(b"\n")
        gone = {str(json.loads(line)) for line in lines}
        if self._nursery.poll() is not None:
            gone, self._nursery = set(self._names), None
        self._names -= gone
        return [Ended(name, self._tail()) for name in sorted(gone)]

    def close(self) -> None:
        """Kill what is left."""
        if self._nursery is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._nursery.pid, signal.SIGKILL)
        self._nursery.communicate()
        self._nursery = None

    def _open(self) -> subprocess.Popen[bytes]:
        threads = str(max(1, cores() // self.seats))
        paths = [str(self._root), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            made = start_apart(
                [sys.executable, "-m", "sia_flow.spread.nursery", str(self._root), *self._modules],
                env={"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        assert made.stdout is not None
        os.set_blocking(made.stdout.fileno(), False)
        return made

    def _tail(self) -> str:
        with suppress(OSError):
            return self._log.read_text(errors="replace")[-LAST:].strip()
        return ""
