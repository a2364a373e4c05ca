"""The warm fork server of one session. It runs trusted code only: modules of the image, never a candidate.

Every job is one fork of this process. Where the kernel lets us nest, the fork is PID 1 of a PID namespace of
its own, with its own user and mount namespaces, so it can neither see nor signal anything else, and its death
ends all that it started. Elsewhere each fork enters a Landlock domain of its own and its orphans are hunted
down when it ends.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import mmap
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from . import candidate, confine, heap, landlock, linux, meter, seccomp, tree
from .packages import PackageFinder
from .wire import Wire

_POLL_SECONDS = 0.2
_COUNT_SECONDS = 1.0
_CONTROL_CAP = 1 << 16
_UNCHARGED = 2
"""Descriptors that a job comes with where it has no cgroup."""


def main(control: int, *, may_nest: bool, sealed: bool = True) -> None:
    """Set up, tell the host that the session is warm, then fork jobs until the host hangs up.

    `sealed` says that nothing is mounted but what jobs may see, and nothing of that can be written.
    """
    channel = socket.socket(fileno=control)
    heap.begin()
    try:
        image, memory = _receive_image(channel)
        nested = may_nest and _nest(sealed=sealed)
        arrays = _load(image, memory)
        ground = _prepare(image, nested=nested)
    except Exception:  # noqa: BLE001 - boundary: the host shows why the session could not start
        channel.send(json.dumps({"failed": traceback.format_exc()[-4000:]}).encode())
        sys.exit(1)
    gc.collect()
    gc.freeze()
    heap.settle()
    zygote = Zygote(channel, ground, arrays)
    hello = {"ready": True, "nested": nested, "scoped": ground.signal_scope, "resident": zygote.resident}
    channel.send(json.dumps(hello).encode())
    zygote.serve()


def _receive_image(channel: socket.socket) -> tuple[dict[str, Any], mmap.mmap]:
    """Return the image's description and the sealed memory that holds its arrays."""
    message, handles, _, _ = socket.recv_fds(channel, _CONTROL_CAP, 1)
    header = json.loads(message)
    # A private mapping: what a job makes writable by force becomes its own copy.
    memory = mmap.mmap(handles[0], header["size"], flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    os.close(handles[0])
    image: dict[str, Any] = json.loads(memory[header["start"] : header["start"] + header["length"]])
    return image, memory


def _nest(*, sealed: bool) -> bool:
    """Enter a user, PID and mount namespace in which more can be made; False where denied."""
    uid, gid = os.getuid(), os.getgid()
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWPID | linux.CLONE_NEWNS)
        linux.map_user(proc, uid, gid)
    except OSError:
        return False
    finally:
        os.close(proc)
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    linux.private_mounts()
    if not sealed:
        _seal()
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    return True


def _seal() -> None:
    """Let nothing be written that a container's runtime mounted, and nothing be listed that is not shown."""
    linux.read_only_mounts()
    flags = linux.MS_NOSUID | linux.MS_NODEV
    for folder in ("/sys", "/run"):
        linux.mount("tmpfs", folder, "tmpfs", flags | linux.MS_RDONLY, "size=4k,mode=0000")
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 - mount points of the zygote's own
        linux.mount("tmpfs", folder, "tmpfs", flags, f"size={confine.SCRATCH},mode=0700")


def _load(image: Mapping[str, Any], memory: mmap.mmap) -> dict[str, Any]:
    """Import the image's modules, map its arrays, and let it warm its caches."""
    sys.meta_path.insert(0, candidate.SourceFinder(candidate.compile_all(image["modules"], {})))
    sys.meta_path.append(PackageFinder(image["imports"], image["metadata"]))
    for name in (*image["preload"], *image["modules"]):
        importlib.import_module(name)
    if image["arrays"] or "numpy" in sys.modules:
        # Loaded on first use otherwise, by every job again.
        importlib.import_module("numpy.random")
    arrays: dict[str, Any] = {}
    if image["arrays"]:
        import numpy as np

        for name, form in image["arrays"].items():
            count = 1
            for size in form["shape"]:
                count *= size
            flat = np.frombuffer(memory, dtype=form["dtype"], count=count, offset=form["offset"])
            arrays[name] = flat.reshape(form["shape"])
    if image["warm"]:
        module, _, function = image["warm"].partition(":")
        getattr(importlib.import_module(module), function)(arrays)
    return arrays


def _prepare(image: Mapping[str, Any], *, nested: bool) -> confine.Ground:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("1000")
    base = tree.mapped()
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ruleset = None if nested else landlock.ruleset(image["readable"], image["listable"])
    if nested:
        linux.mount("tmpfs", "/proc", "tmpfs", linux.MS_RDONLY | linux.MS_NOSUID, "size=4k")
    else:
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 1 if nested else 0)
    scoped = nested or landlock.abi() >= landlock.SIGNAL_SCOPE_ABI
    return confine.Ground(nested, proc, ruleset, seccomp.prepare(seccomp.build(metadata=not nested)), base, scoped)


class Running:
    """One job's process, as the zygote keeps it."""

    def __init__(self, job: int, memory: int | None) -> None:
        self.job = job
        self.memory = memory
        """Bytes that its processes may hold together; None where the kernel sees to it."""
        self.over = False


class Zygote:
    """Forks, kills and reaps jobs at the host's word."""

    def __init__(self, channel: socket.socket, ground: confine.Ground, arrays: Mapping[str, Any]) -> None:
        self._channel = channel
        self._ground = ground
        self._arrays = arrays
        self._running: dict[int, Running] = {}
        self._next_watch = 0.0
        self._next_count = 0.0
        self._others = 0
        self.resident = tree.resident(ground.proc, [os.getpid()])
        """Bytes of its own pages, of which each job has a copy or makes one."""
        self._own_pids = os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=ground.proc) if ground.nested else -1

    def serve(self) -> None:
        """Answer the host until it hangs up."""
        wake, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            ready = [handle for handle, _ in poll.poll(_POLL_SECONDS * 1000 if self._running else None)]
            if wake in ready:
                os.read(wake, 4096)
            self._reap()
            if self._channel.fileno() in ready and not self._obey():
                return
            if time.monotonic() >= self._next_watch:
                self._watch_memory()

    def _obey(self) -> bool:
        message, ancillary, _, _ = self._channel.recvmsg(_CONTROL_CAP, socket.CMSG_SPACE(12))
        if not message:
            return False
        order = json.loads(message)
        if "kill" in order:
            self._kill(order["kill"])
            return True
        if "meter" in order:
            self._channel.send(json.dumps(self._meter(order["meter"])).encode())
            return True
        handles = array.array("i")
        for _, _, data in ancillary:
            handles.frombytes(data)
        self._start(order, handles)
        for handle in handles:
            os.close(handle)
        return True

    def _start(self, order: Mapping[str, Any], handles: Sequence[int]) -> None:
        """Fork a job on its socket, its output and, where the kernel charges it, the door of its cgroup."""
        if self._ground.nested:
            linux.unshare(linux.CLONE_NEWPID)
        else:
            order = {**order, "others": self._count_others() + len(self._running)}
        pid = os.fork()
        if pid == 0:
            self._become(order, *handles)
        self._running[pid] = Running(order["start"], order["memory"] if len(handles) == _UNCHARGED else None)
        if self._ground.nested:
            # The kernel lets a process choose its children's PID namespace only from its own.
            linux.setns(self._own_pids, linux.CLONE_NEWPID)

    def _count_others(self) -> int:
        """Return the user's tasks beside the jobs: the kernel counts RLIMIT_NPROC over all of them."""
        if time.monotonic() >= self._next_count:
            self._next_count = time.monotonic() + _COUNT_SECONDS
            self._others = max(1, tree.tasks_of(os.getuid()) - len(self._running))
        return self._others

    def _become(self, order: Mapping[str, Any], connection: int, output: int, group: int = -1) -> None:
        """Turn this fork into the job."""
        try:
            if group >= 0:
                os.write(group, b"0")
            os.dup2(output, 1)
            os.dup2(output, 2)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            confine.enter(self._ground, order, connection, output)
            self._channel.detach()
            wire = Wire(socket.socket(fileno=confine.JOB_SOCKET))
            request = wire.receive()
            candidate.reseed(request["seed"])
            candidate.run(wire, candidate.Work(request, self._arrays))
        except OSError as error:
            os.write(2, f"{error}\n".encode())
        finally:
            candidate.leave()

    def _kill(self, job: int) -> None:
        for pid, running in self._running.items():
            if running.job != job:
                continue
            if self._ground.nested:
                os.kill(pid, signal.SIGKILL)
            else:
                tree.kill(self._ground.proc, pid)

    def _meter(self, job: int) -> dict[str, int]:
        """Return what a job's process has used so far; one that was reaped has no process."""
        pid = next((pid for pid, running in self._running.items() if running.job == job), 0)
        return {"meter": job, **(meter.read(self._ground.proc, pid) if pid else {"cpu": -1})}

    def _reap(self) -> None:
        """Collect dead children and report the jobs among them."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            running = self._running.pop(pid, None)
            if running is None:
                continue
            if not self._ground.nested:
                tree.reap(set(self._running))
            report = {
                "job": running.job,
                "code": os.waitstatus_to_exitcode(status),
                "cpu": usage.ru_utime + usage.ru_stime,
                "memory": running.over,
            }
            self._channel.send(json.dumps(report).encode())

    def _watch_memory(self) -> None:
        """Kill a job whose processes together hold more than it may; one alone is bounded by its rlimit."""
        self._next_watch = time.monotonic() + _POLL_SECONDS
        for pid, running in list(self._running.items()):
            if running.memory is None:
                continue
            below = tree.descendants(self._ground.proc, pid)
            # Every fork counts the zygote's pages once more.
            room = running.memory + (1 + len(below)) * self.resident
            if below and tree.resident(self._ground.proc, [pid, *below]) > room:
                running.over = True
                self._kill(running.job)
