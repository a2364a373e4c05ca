"""How the process of a task's verifier begins: it confines itself, then imports the rest of sia_flow and the task.

Invariant: nothing of a task, and no library that starts threads, is imported before the process is confined: neither
Landlock nor seccomp reaches threads that are there already.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import landlock, linux, seccomp
from .packages import PackageFinder
from .wire import Wire


def main() -> None:
    """Hear who the host is and what may be read, confine this process, and hand the connection on."""
    connection = socket.socket(fileno=int(sys.argv[2]))
    orders = Wire(connection).receive()
    # Afterwards the folders of these can no longer be listed.
    finder = PackageFinder(orders["imports"], ())
    confined = confine(orders)
    faulthandler.enable()
    sys.path[:] = orders["path"]
    sys.meta_path.insert(0, finder)
    importlib.import_module(orders["serve"]).serve(connection, orders, confined)


def confine(orders: Mapping[str, Any]) -> dict[str, int | bool]:
    """Confine this process for good and return what holds: Landlock's ABI (0: none), and whether seccomp does.

    Raises OSError.
    """
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != orders["host"]:
        os._exit(1)
    # Where memory runs out, this goes before the host does.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = int(orders["memory"])
    memory = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    version = landlock.abi()
    if version:
        landlock.restrict(landlock.ruleset(orders["readable"], orders["listable"], orders["writable"]))
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    _drop_capabilities()
    known = platform.machine() in seccomp.MACHINES
    if known:
        seccomp.install(seccomp.prepare(seccomp.build(metadata=True, signals=os.getpid(), lone=True)))
    return {"landlock": version, "seccomp": known}


def _drop_capabilities() -> None:
    """Keep at most what root needs to read a project that belongs to somebody else."""
    try:
        linux.drop_capabilities(linux.CAP_DAC_READ_SEARCH if os.geteuid() == 0 else 0)
    except OSError:
        linux.drop_capabilities()
