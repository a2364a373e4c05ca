"""Runs a module as a program that never outlives the process that asked for it, not even one killed with
-9.

Started as a script by `sia_flow.track.service`, so it imports the standard library only. Invariant: within
`INTERVAL` seconds of the parent's end this process and its whole group are gone. A watch thread is used
rather than PR_SET_PDEATHSIG because that one fires when the *thread* that started the child ends.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

INTERVAL = 0.25


def follow(parent: int) -> None:
    """Kill this process group as soon as `parent` is no longer our parent."""
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os.killpg(0, signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Run `arguments` = [parent's process id, module, the module's arguments ...]."""
    parent, module, *rest = arguments
    # It was born with SIGINT held back (`sia_flow.apart`).
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The folder of this file would otherwise shadow libraries: it holds an `mlflow.py`.
    here = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120 - no pathlib before the path is clean
    sys.path = [entry for entry in sys.path if os.path.realpath(entry or ".") != here]
    threading.Thread(target=follow, args=(int(parent),), daemon=True).start()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
