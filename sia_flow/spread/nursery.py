"""A process that has the imports done and forks workers: the second one costs neither seconds nor memory for them.

Started as a module by `sia_flow.spread.processes`. It reads one ticket a line and says on its output which workers
ended. Invariant: when its input ends, because it is done with or its parent was killed, it and all workers are gone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable

from sia_flow.apart import let_through
from sia_flow.spread.ticket import Ticket

Work = Callable[[Ticket], None]


def main(root: str, *modules: str) -> None:
    """Import the modules, then fork a worker of the project in `root` for each ticket."""
    let_through()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.insert(0, root)
    work: Work = importlib.import_module("flows.worker").work
    for name in modules:
        # Where one is missing, the step that needs it says so.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    names: dict[int, str] = {}
    rest = b""
    while True:
        for pid in list(names):
            if os.waitpid(pid, os.WNOHANG)[0]:
                sys.stdout.write(json.dumps(names.pop(pid)) + "\n")
                sys.stdout.flush()
        if not select.select([0], [], [], 0.1)[0]:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            os.killpg(0, signal.SIGKILL)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            ticket = Ticket.from_json(line.decode())
            pid = os.fork()
            if not pid:
                _leave()
                work(ticket)
                return
            names[pid] = ticket.name


def _leave() -> None:
    """Let go of the nursery's pipes: a worker that held them would outlive it, and garble what it says."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)


if __name__ == "__main__":
    main(*sys.argv[1:])
