"""Command lines as processes of their own, forked from one that has the heavy imports done.

A process of its own is what is killed, stopped and limited in the tests; importing torch, transformers and MLflow
again for each would take most of the suite's time. Run as a script, this file is the process that is forked from.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import runpy
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
QUIET = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


@dataclass
class Process:
    """A started command line; what subprocess.Popen says of one, as far as the tests ask."""

    pid: int
    ended: socket.socket
    """Gives the exit code as text, once."""
    log: IO[str]
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self.ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self.ended.recv(100))
            self.ended.close()
        return self.returncode


def start(*arguments: str, cwd: Path, file_size: int | None = None, **environment: str) -> Process:
    """Start the command line in a process group of its own; its output goes to a file, never to a full pipe.

    `file_size` is the most bytes that a file of it may have.
    """
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process object
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environ = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT), **environment}
    asked = json.dumps([arguments, str(cwd), file_size, environ]).encode()
    with theirs:
        socket.send_fds(_warm(), [asked], [theirs.fileno(), log.fileno()])
    return Process(int(ours.recv(100)), ours, log)


@cache
def _warm() -> socket.socket:
    """Start the process that is forked from, once; it ends when its socket closes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    atexit.register(ours.close)
    return ours


def _serve(asked: socket.socket) -> tuple[Sequence[str], str, int | None, Mapping[str, str]] | None:
    """Fork for each request and tell of each end; return a request in the child, None when there are no more."""
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for ready in select.select([asked, *running], [], [])[0]:
            if ready is not asked:
                pid, tell = running.pop(ready)
                os.close(ready)
                with tell, contextlib.suppress(OSError):
                    tell.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                continue
            text, fds, _, _ = socket.recv_fds(asked, 1 << 20, 2)
            if not text:
                return None
            told, log = fds
            pid = os.fork()
            if pid == 0:
                os.dup2(log, 1)
                os.dup2(log, 2)
                # Detached, or they would close what the child opens under their numbers.
                for held in (asked, *(tell for _, tell in running.values())):
                    os.close(held.detach())
                for number in (*running, told, log):
                    os.close(number)
                return json.loads(text)
            os.close(log)
            tell = socket.socket(fileno=told)
            tell.send(str(pid).encode())
            running[os.pidfd_open(pid)] = pid, tell


def main() -> None:
    """Import, fork for each request, be the command line in each child."""
    import transformers.models.gpt_oss.modeling_gpt_oss  # noqa: F401

    found = _serve(socket.socket(fileno=int(sys.argv[1])))
    if found is None:
        return
    arguments, folder, file_size, environ = found
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    if file_size is not None:
        # Python (gh-126606) keeps a compiled file that was cut short, and every later process would stumble over it.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.argv = ["sia-flow", *arguments]
    sys.path[0] = folder
    runpy.run_module("sia_flow", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
