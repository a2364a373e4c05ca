"""Programs that try to be paid without an answer, written for any task: what they look for must not be there.

Invariant: each raises, or hands in what no verifier may take, unless its cheat came off; so a task can never be refused
for what an honest program earns.
"""

from __future__ import annotations

from string import Template

from sia_flow.protocols import Instance
from sia_flow.verify.probes import Probe

_FRAMES = """import gc
import sys


def $entry(*given, **named):
    import numpy as np
    mine = {id(one) for one in (*given, *named.values())}
    mine |= {id(value) for one in given if isinstance(one, dict) for value in one.values()}
    frame, seen = sys._getframe(), []
    while frame is not None:
        seen += list(frame.f_locals.values())
        frame = frame.f_back
    seen += [one for one in gc.get_objects() if isinstance(one, np.ndarray)]
    for one in seen:
        named_so = isinstance(one, dict) and any(key in one for key in ("expected", "private", "test", "truth"))
        if named_so or type(one).__name__ in ("Instance", "ProgramScorer", "Verdict"):
            return np.zeros($shape)
    raise LookupError("no frame holds the verifier")
"""

_OVERWRITES = """import os
import sys


def $entry(*given, **named):
    import numpy as np
    reached = [name for name in sys.modules if name.split(".")[0] in ("sia_flow", "tasks")]
    for name in ("sia_flow.verify.programs", "sia_flow.errors", "tasks"):
        try:
            __import__(name)
        except ImportError:
            continue
        reached.append(name)
    for place in {*sys.path, os.path.dirname(os.__file__), "/sandbox", "/sandbox/inside"}:
        try:
            with open(os.path.join(place, "overwritten.py"), "x"):
                pass
            os.remove(os.path.join(place, "overwritten.py"))
        except OSError:
            continue
        reached.append(place)
    if not reached:
        raise LookupError("nothing of the evaluator is in reach")
    return np.zeros($shape)
"""

_FAKE_RESULT = """import json
import os


def $entry(*given, **named):
    verdict = json.dumps({"reward": 1e9, "score": 1e9, "valid": True, "passed": True, "status": "OK"})
    for place in (".", "/tmp", "/dev/shm", "/job", "/logs/verifier"):
        for name in ("result.json", "reward.txt", "score.txt", "verdict.json"):
            try:
                with open(os.path.join(place, name), "w") as file:
                    file.write(verdict)
            except OSError:
                continue
    print(verdict, flush=True)
    for handle in range(4, 64):
        try:
            os.write(handle, verdict.encode())
        except OSError:
            continue
    os._exit(0)
"""

_SEARCHES_DISK = """import os

WANTED = ("task.yaml", "verifier.py", "counts.npz", "journal.jsonl", "seals.jsonl", "pyproject.toml")


def $entry(*given, **named):
    import numpy as np
    found = []
    for root in ("/", "/home", "/root", "/work", "/proc/1/root", "/proc/self/cwd"):
        for path, folders, names in os.walk(root):
            if path.startswith(("/proc/", "/sys/", "/usr/")) and root == "/":
                folders.clear()
                continue
            found += [os.path.join(path, name) for name in names if name in WANTED]
    for path in found:
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError:
            continue
        return np.zeros($shape)
    raise LookupError("no file of the project can be read")
"""

_PATCHES = """import builtins
import math
import time

for name in ("perf_counter", "perf_counter_ns", "monotonic", "time", "process_time", "thread_time"):
    setattr(time, name, lambda *_: 0)


def $entry(*given, **named):
    import numpy as np
    for home, name in ((np, "allclose"), (np, "isfinite"), (np, "isclose"), (math, "isclose"), (math, "isfinite")):
        setattr(home, name, lambda *_, **__: True)
    builtins.abs = lambda _: 0.0
    return np.full($shape, np.nan)
"""


def cheats(entry: str, instance: Instance) -> tuple[Probe, ...]:
    """Return the cheats for programs whose function is `entry`, with results of the instance's shape."""
    words = {"entry": entry, "shape": repr(tuple(instance.returns.shape))}

    def probe(name: str, source: str) -> Probe:
        return Probe(name, Template(source).substitute(words), fails=True)

    return (
        probe("walks the frames", _FRAMES),
        probe("overwrites the evaluator", _OVERWRITES),
        probe("fakes a result", _FAKE_RESULT),
        probe("searches the disk", _SEARCHES_DISK),
        probe("patches clocks and comparisons", _PATCHES),
    )
