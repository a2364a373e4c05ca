"""What a job's process has used so far, read from outside it.

Invariant: every figure comes from the kernel's accounts of the process, which it can add to and never take from.
"""

from __future__ import annotations

import re
import time

from . import tree

_WHOLE_PROCESS = 2
_THREADS = re.compile(rb"^Threads:\s*(\d+)$", re.MULTILINE)


def read(proc: int, pid: int) -> dict[str, int]:
    """Return a live process's nanoseconds on a processor and in wait for one.

    `cpu` is that of all its threads, ended ones included; `helpers` counts the threads and processes beside its first
    thread. `proc` is a descriptor of the proc file system. A process that has gone gives a `cpu` of -1.
    """
    try:
        # The clock id of another process, as clock_getcpuclockid(3) makes it; Python has no name for that call.
        cpu = time.clock_gettime_ns((~pid << 3) | _WHOLE_PROCESS)
    except OSError:
        return {"cpu": -1, "delay": 0, "helpers": 0}
    threads = _THREADS.search(tree.read(proc, f"{pid}/status"))
    accounts = tree.read(proc, f"{pid}/schedstat").split()
    return {
        "cpu": cpu,
        "delay": int(accounts[1]) if len(accounts) > 1 else 0,
        "helpers": (int(threads[1]) if threads else 1) - 1 + len(tree.children(proc, pid)),
    }
