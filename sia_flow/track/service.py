"""A server of ours in a child process: started at once, awaited later, gone when we are.

Invariants: the child is the leader of its own session, so that Ctrl-C at the terminal reaches us first; its
output goes to a log file, never to a pipe that nobody reads; it ends with its parent (see `launcher`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from sia_flow.apart import start_apart
from sia_flow.errors import InfrastructureError

LAUNCHER = Path(__file__).with_name("launcher.py")
TAIL = 2000


class Service:
    """A Python module run as a server, known to be ready by a URL that answers 200."""

    def __init__(self, name: str, health: str, log: Path) -> None:
        self.name = name
        self.health = health
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server, None when it was not started."""
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start `python -m module arguments` and return at once. `descriptors` stay open in the child."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(LAUNCHER), str(os.getpid()), module, *arguments]
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            self._child = start_apart(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environ},
                pass_fds=tuple(descriptors),
            )

    def wait(self, seconds: float) -> None:
        """Return when the server answers. Raises InfrastructureError, with the log's end, otherwise."""
        deadline = time.monotonic() + seconds
        while not answers(self.health):
            code = self._child.poll() if self._child else None
            if code is not None:
                raise InfrastructureError(f"the {self.name} ended with code {code} while starting{self._tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise InfrastructureError(
                    f"the {self.name} did not answer {self.health} within {seconds:g} s{self._tail()}"
                )
            time.sleep(0.05)

    def stop(self, grace: float = 10.0) -> None:
        """End the server and everything that it started; after `grace` seconds by force."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def _tail(self) -> str:
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            text = ""
        return f"; its log {self.log} ends with:\n{text[-TAIL:]}" if text else f"; its log {self.log} is empty"


def answers(url: str) -> bool:
    """Say whether a URL of ours answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own loopback URL
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
