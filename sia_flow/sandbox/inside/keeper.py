"""Stands outside the sandbox and holds its life: when the host hangs up or dies, everything inside dies.

Invariant: the sandbox never runs as kernel uid 0. On a root host this process makes a private mount namespace, shows in
it what the interpreter needs, and starts the sandbox as a throw-away user; itself it stays root and out of reach. Where
no such namespace may be made, as in most containers, Landlock goes without. It watches the host by a process descriptor
and a pipe, since PDEATHSIG follows the thread that spawned and a pipe end may have been copied by a fork.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import stat
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import container, linux, tree

_STAGE = "/tmp"  # noqa: S108 - covered by a tmpfs of this process's own mount namespace
_FIRST_USER = 0x70000000
_NARROW_USER = 60000
_REMOVE_SECONDS = 5.0
_STAGE_SIZE = "16m"


class Held(NamedTuple):
    """A sandbox that runs."""

    pid: int
    """Its process that the host is told of."""
    watched: tuple[int, ...]
    """Descriptors of processes; the first end of one is the sandbox's."""
    inner: int | None
    """Descriptor of the first process of its namespace, where it has one."""
    home: container.Home | None = None
    """Podman's records."""


def main() -> None:
    """Read the plan on stdin, start the sandbox, report its process, and wait for an end."""
    # It was born with SIGINT held back (`sia_flow.apart`); candidates shall not be.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
    plan = _read_plan()
    try:
        held = _start_container(plan) if plan["podman"] else _start(plan)
    except (OSError, ValueError) as error:
        _report({"error": str(error)})
        return
    for handle in plan["pass"]:
        os.close(handle)
    _report({"pid": held.pid})
    _wait(held, plan["host"])
    _end(held)
    if plan["cgroup"]:
        _remove(plan["cgroup"])


def _read_plan() -> dict[str, Any]:
    (size,) = struct.unpack("=I", os.read(0, 4))
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data))
    plan: dict[str, Any] = json.loads(data)
    return plan


def _report(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _places(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return where the paths that are shown lie: on a root host in a mount namespace of this process's own."""
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    sources = list(dict.fromkeys(plan["expose"]))
    if os.geteuid() != 0:
        return {path: path for path in sources}
    try:
        linux.unshare(linux.CLONE_NEWNS)
    except PermissionError:
        # A container's root without CAP_SYS_ADMIN. Bubblewrap and podman need more than this, Landlock does not.
        if plan["stage"]:
            raise
        return as_they_are(sources)
    linux.private_mounts()
    return _stage(sources) if plan["stage"] else uncover(sources)


def _start_container(plan: Mapping[str, Any]) -> Held:
    """Start the sandbox by podman."""
    order, places = plan["podman"], _places(plan)
    home = container.home(order["base"], private=_STAGE if os.geteuid() == 0 else None)
    try:
        environment = container.lay(order, home.folder)
        argv = container.command(order, home.folder, places, _user() if os.geteuid() == 0 else container.NOBODY)
        started = container.start(argv, environment, plan["pass"][0], home.folder, plan["host"])
    except OSError:
        tree.reap(set())
        container.release(home)
        raise
    return Held(started.first, started.handles, started.handles[0], home)


def _start(plan: Mapping[str, Any]) -> Held:
    """Start the sandbox as a child of this process: bubblewrap, or the zygote itself."""
    argv, places = list(plan["argv"]), _places(plan)
    argv = [places.get(part[1:], part) if part.startswith("@") else part for part in argv]
    told, tell = os.pipe() if plan["stage"] else (-1, -1)
    if plan["stage"]:
        argv[1:1] = ["--info-fd", str(tell)]
    child = os.fork()
    if child == 0:
        _become(argv, plan, tell)
    if not plan["stage"]:
        return Held(child, (os.pidfd_open(child),), None)
    os.close(tell)
    return Held(child, (os.pidfd_open(child),), _first_process(told))


def _become(argv: list[str], plan: Mapping[str, Any], tell: int) -> None:
    """Exec the sandbox as a user that is not root. The parent reads a failure on stderr."""
    try:
        keeper = os.getppid()
        if os.geteuid() == 0:
            _drop_user()
        # After the change of user, which clears it.
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        for handle in (*plan["pass"], *([tell] if tell >= 0 else [])):
            os.set_inheritable(handle, True)
        os.execve(argv[0], argv, plan["environment"])  # noqa: S606 - the plan is ours
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _drop_user() -> None:
    os.setgroups([])
    for uid in (_FIRST_USER + os.getpid(), _NARROW_USER + os.getpid() % 1000):
        try:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        except OSError:
            continue
        return
    raise OSError("no unprivileged user to change to: this user namespace maps root alone")


def _user() -> int:
    """Return an id that is nobody's, among those that this user namespace has."""
    wanted = _FIRST_USER + os.getpid()
    ranges = [[int(field) for field in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    there = any(first <= wanted < first + count for first, _, count in ranges)
    return wanted if there else _NARROW_USER + os.getpid() % 1000


def _stage(paths: list[str]) -> dict[str, str]:
    """Bind each path below a folder that anyone may enter; return where."""
    handles = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths]
    linux.mount("tmpfs", _STAGE, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"size={_STAGE_SIZE},mode=0755")
    places = {}
    for number, (path, handle) in enumerate(zip(paths, handles, strict=True)):
        place = f"{_STAGE}/{number}"
        _bind(handle, place)
        places[path] = place
    return places


def uncover(paths: list[str]) -> dict[str, str]:
    """Replace each folder on the way that is closed to others by an empty one that holds only the path."""
    handles = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}
    closed = {path: _closed_parent(path) for path in paths}
    for folder in sorted({parent for parent in closed.values() if parent}):
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=0755")
    for path in paths:
        if closed[path]:
            _bind(handles[path], path)
    return {path: path for path in paths}


def as_they_are(paths: list[str]) -> dict[str, str]:
    """Return the paths where they lie. Raises PermissionError for one that another user cannot come to."""
    for path in paths:
        if folder := _closed_parent(path):
            raise PermissionError(
                errno.EPERM,
                f"no mount namespace may be made here, and the sandbox's user cannot enter {folder}, where {path} is: "
                f"`chmod o+x {folder}`, or start sia-flow as a user that is not root",
            )
    return {path: path for path in paths}


def _closed_parent(path: str) -> str:
    """Return the outermost folder above `path` that others may not enter, or nothing."""
    for parent in reversed(Path(path).parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return str(parent)
    return ""


def _bind(handle: int, place: str) -> None:
    source = Path(f"/proc/self/fd/{handle}")
    if source.is_dir():
        Path(place).mkdir(parents=True, exist_ok=True)
    else:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).touch()
    linux.mount(str(source), place, flags=linux.MS_BIND)
    os.close(handle)


def _first_process(told: int) -> int | None:
    """Return a descriptor of PID 1 of bubblewrap's namespace, once bubblewrap has named it."""
    text = b""
    while b"}" not in text:
        part = os.read(told, 4096)
        if not part:
            break
        text += part
    os.close(told)
    with contextlib.suppress(ValueError, KeyError, OSError):
        return os.pidfd_open(json.loads(text)["child-pid"])
    return None


def _wait(held: Held, host: int) -> None:
    """Return when the host hangs up, the host dies, or the sandbox ends."""
    poll = select.poll()
    for handle in (0, host, *held.watched):
        poll.register(handle, select.POLLIN | select.POLLHUP)
    poll.poll()


def _end(held: Held) -> None:
    """Kill the sandbox and wait until nothing of it is left."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if held.inner is None:
        tree.kill(proc, held.pid)
    else:
        if held.home is None:
            tree.send([held.pid], signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(held.inner, signal.SIGKILL)
        poll = select.poll()
        poll.register(held.inner, select.POLLIN)
        # Readable only when the kernel has reaped the whole namespace; bubblewrap itself ends earlier.
        poll.poll(5000)
    if held.home is None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(held.pid, 0)
    tree.reap(set())
    if held.home is not None:
        container.release(held.home)


def _remove(folder: str) -> None:
    """Remove the session's cgroups; what is still in them is killed."""
    group = Path(folder)
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _REMOVE_SECONDS
    while time.monotonic() < deadline:
        try:
            for leaf in [path for path in group.iterdir() if path.is_dir()]:
                leaf.rmdir()
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            # The kernel is still burying what was in it.
            time.sleep(0.01)
        else:
            return
