"""A task whose verifier does whatever an answer tells it to: what a hostile answer might bring a poor one to."""

from __future__ import annotations

from pathlib import Path

from sia_flow.verify.task import Task
from tests.verify.written import write_task

MANIFEST = """
name: traps
title: Traps
description: task.md
answer: {type: text}
verifier: verifier.py:Traps
modes: {plain: as it is}
mode: plain
data_sets: {none: nothing}
data: none
prepare: verifier.py:Traps
tools: verifier.py:Tools
metric: {name: share, direction: maximize, floor: 0.0}
"""

VERIFIER = r"""
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from sia_flow.errors import InfrastructureError, TaskError
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import ArraySpec, Instance

KEPT = []


def connect(name):
    return socket.create_connection(("127.0.0.1", int(name)))


DEEDS = {
    "say": lambda text: text,
    "hang": lambda _: re.match(r"(a+)+$", "a" * 64 + "b"),
    "crash": lambda _: ctypes.string_at(0),
    "exit": lambda _: os._exit(3),
    "hog": lambda size: len(bytes(int(size))),
    "raise": lambda text: {}[text],
    "refuse": lambda text: (_ for _ in ()).throw(TaskError(text)),
    "machine": lambda text: (_ for _ in ()).throw(InfrastructureError(text)),
    "none": lambda _: None,
    "key": lambda name: os.environ.get(name, "unset"),
    "connect": connect,
    "pair": lambda _: len(socket.socketpair()),
    "read": lambda path: Path(path).read_text()[:4],
    "list": lambda path: len(os.listdir(path)),
    "write": lambda path: Path(path).write_text("x"),
    "chmod": lambda path: os.chmod(path, 0o777),
    "scratch": lambda _: Path(tempfile.mkdtemp(), "f").write_text("xy"),
    "start": lambda _: subprocess.run(["true"]).returncode,
    "fork": lambda _: os.fork(),
    "kill": lambda pid: os.kill(int(pid), signal.SIGTERM),
    "shout": lambda size: sys.stderr.write("x" * int(size)) + sys.stdout.write("y" * int(size)),
}


class Tools:
    names = ("double", "stop")

    def __init__(self, verifier):
        self.verifier = verifier

    def call(self, name, instance, params):
        if name == "stop":
            os._exit(1)
        if "number" not in params:
            raise ValueError("double takes number (an int)")
        return {"doubled": 2 * params["number"], "secret": float(instance.private["secret"][0]) > 0}


class Traps:
    digest, data_digest, floor, guards_block = "traps", "none", 0.0, False

    def __init__(self, mode, data_dir):
        pass

    def instances(self, split, count, seed):
        if split == "sealed":
            raise KeyError(split)
        return tuple(self.one(split, seed, i) for i in range(count))

    def one(self, split, seed, i):
        array = np.arange(6.0).reshape(2, 3) + seed
        secret = {"secret": np.array([1.0 + i])}
        return Instance(f"traps/{split}/{i}", split, {"n": i}, {"a": array}, ArraySpec((2, 3)), secret)

    def visible(self, instance):
        return Instance(instance.id, instance.split, instance.public, instance.arrays, instance.returns)

    def score(self, instance, output):
        KEPT.append(output)
        sums = [float(held.sum()) for held in KEPT]
        output[:] = 0
        KEPT[-1] = KEPT[-1] + sums[-1] / output.size
        metrics = {"sum": sums[-1], "first": sums[0], "odd": float("nan")}
        return Verdict(reward=float(np.inf), valid=True, metrics=metrics, feedback=str(sorted(instance.private)))

    def score_text(self, instance, answer):
        deed, _, rest = answer.partition(" ")
        try:
            found = repr(DEEDS[deed](rest))
        except OSError as error:
            found = f"{type(error).__name__} {error.errno}"
        if deed == "none":
            return None
        return Verdict(reward=1.0, valid=True, feedback=found)

    def baselines(self, instance):
        return {"one": Verdict(reward=1.0, valid=True)}

    def guards(self, metrics):
        return {name: -value for name, value in metrics.items()}
"""


def make_traps(root: Path) -> Task:
    """Write the task's folder and load it."""
    return write_task(root, "traps", MANIFEST, VERIFIER)
