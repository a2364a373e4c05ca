"""A few real attacks, run as a candidate inside a backend before it is trusted.

Invariant: each attack aims at a live target (a file that exists, a socket that listens, a process that
carries the canary), so that a failure to break out is the sandbox's doing and not the target's absence.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sia_flow.apart import start_apart
from sia_flow.protocols import Job, Limits, Outcome
from sia_flow.sandbox.backends import CHARGED_LEVEL
from sia_flow.sandbox.session import WarmSession

SOURCE = """
import json, os, socket


def reaches(action):
    try:
        return bool(action())
    except OSError:
        return False


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path):
    with open(path, "w") as file:
        file.write("x")
    return True


def connect(port):
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True


def solve(job):
    target = job.instance
    canary = target["canary"].encode()
    environments = [f"/proc/{pid}/environ" for pid in (target["pid"], os.getppid(), 1)]
    breaches = {
        "read a file of the host": reaches(lambda: canary in read(target["file"])),
        "write beside it": reaches(lambda: write(target["file"] + ".new")),
        "write into the interpreter": reaches(lambda: write(os.path.join(target["library"], "canary"))),
        "read a package that was not given": reaches(lambda: read(target["package"])),
        "read another process's environment": any(
            reaches(lambda: canary in read(path)) for path in environments
        ),
        "connect to a port of the host": reaches(lambda: connect(target["port"])),
        "signal the host": reaches(lambda: os.kill(target["pid"], 0) is None),
        "make a socket": reaches(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)),
        "see the host's environment": canary.decode() in str(os.environ),
        "be root": os.getuid() == 0,
    }
    return json.dumps([name for name, broken in breaches.items() if broken])
"""

HOARD = """
import os, time


def solve(job):
    children = []
    for _ in range(job.instance["processes"]):
        child = os.fork()
        if child == 0:
            held = bytearray(job.instance["bytes"])
            time.sleep(20)
            os._exit(len(held) % 2)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return "held"
"""
"""Many processes, each of which holds less than the limit, and all together more."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the attacks aim at, alive on the host."""

    canary: str
    file: Path
    port: int
    pid: int
    library: str = os.path.dirname(os.__file__)  # noqa: PTH120 - a string for the job
    """Folder of the standard library."""
    package: str = np.__file__
    """A file of an installed package that the attacked image does not name."""


@contextlib.contextmanager
def target(folder: Path | None) -> Iterator[Target]:
    """Put a canary into a file below `folder` and into a process, and listen on loopback."""
    canary = f"canary-{secrets.token_hex(8)}"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place, socket.create_server(("127.0.0.1", 0)) as listener:
        # Open to everyone: only the sandbox may stand in the way.
        Path(place).chmod(0o755)
        file = Path(place) / "canary"
        file.write_text(canary)
        file.chmod(0o644)
        holder = start_apart(["/bin/cat"], stdin=subprocess.PIPE, env={"CANARY": canary})
        try:
            yield Target(canary, file, listener.getsockname()[1], holder.pid)
        finally:
            holder.kill()
            holder.communicate()


def instance(aim: Target) -> dict[str, str | int]:
    """Return what the attacking job is told of its targets."""
    return {
        "canary": aim.canary,
        "file": str(aim.file),
        "port": aim.port,
        "pid": aim.pid,
        "library": aim.library,
        "package": aim.package,
    }


def breaches(session: WarmSession, aim: Target) -> list[str]:
    """Return the attacks that got through, by name; empty for a sandbox that holds.

    Raises InfrastructureError when the sandbox cannot run the attacks.
    """
    outcome = session.run([Job(SOURCE, "solve", instance=instance(aim))], Limits())[0]
    if outcome.status != "OK" or not isinstance(outcome.value, str):
        return [f"the attacks did not run: {outcome.status} {outcome.error}"]
    found: list[str] = json.loads(outcome.value)
    if session.isolation.level == CHARGED_LEVEL and hoard(session).status != "MEMORY":
        found.append("hold more memory in many processes than the kernel was told to allow")
    return found + (["run as root"] if session.pid is not None and _is_root(session.pid) else [])


def hoard(session: WarmSession) -> Outcome:
    """Hold four times the limit in processes that stay below it each; return what came of it."""
    # Time enough for a machine that is slow: killed for its time it would tell nothing.
    limits = Limits(memory=128 << 20, wall=40.0)
    return session.run([Job(HOARD, "solve", instance={"processes": 8, "bytes": 64 << 20})], limits)[0]


def _is_root(pid: int) -> bool:
    """Return whether a process has kernel uid 0, real or saved, as seen from here."""
    return os.geteuid() == 0 and Path(f"/proc/{pid}").stat().st_uid == 0
