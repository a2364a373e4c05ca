"""What a forked job does to itself before it reads its request: namespaces or Landlock, rlimits, seccomp.

Invariant: after `enter` the process holds descriptors 0 to 3 and nothing else of the zygote's; it has no
capability, no writable folder but its own sized tmpfs (none at all without namespaces), and no way to make a
socket.
"""

from __future__ import annotations

import math
import os
import resource
import signal
from collections.abc import Mapping
from typing import NamedTuple

from . import landlock, linux, seccomp

SCRATCH = 64 << 20
_INODES = 4096
_DESCRIPTORS = 256
JOB_SOCKET = 3


class Ground(NamedTuple):
    """What the zygote prepared once for every job."""

    nested: bool
    """Whether each job gets namespaces of its own."""
    proc: int
    """Descriptor of the zygote's own proc file system."""
    ruleset: int | None
    """Landlock rule set for jobs without namespaces."""
    filter: seccomp.Prepared
    """seccomp filter."""
    base: int
    """Bytes of address space that the warm zygote has mapped; limits come on top."""
    signal_scope: bool
    """Whether Landlock keeps signals inside a job."""


def enter(ground: Ground, limits: Mapping[str, float], connection: int, output: int) -> None:
    """Confine this process for good. Raises OSError."""
    os.setsid()
    program = ground.filter
    if ground.nested:
        _namespaces(ground.proc)
    else:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if ground.ruleset is not None:
        landlock.restrict(ground.ruleset)
        program = program if ground.signal_scope else seccomp.prepare(_only_self())
    _descriptors(connection, output)
    _limit(limits, ground.base)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    linux.drop_capabilities()
    seccomp.install(program)


def _only_self() -> bytes:
    return seccomp.build(metadata=True, signals=os.getpid())


def _namespaces(proc: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    linux.map_user(proc, uid, gid)
    options = f"size={SCRATCH},nr_inodes={_INODES},mode=0700"
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 - mount points of the job's own
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
    os.chdir("/tmp")  # noqa: S108


def _limit(limits: Mapping[str, float], base: int) -> None:
    values = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        # Soft equals hard, so the kernel kills at once: PID 1 of a namespace would ignore SIGXCPU.
        (resource.RLIMIT_CPU, max(1, math.ceil(limits["cpu"]))),
        (resource.RLIMIT_AS, base + int(limits["memory"])),
        (resource.RLIMIT_FSIZE, int(limits["file_size"])),
        (resource.RLIMIT_NPROC, int(limits["processes"] + limits.get("others", 0))),
    )
    for kind, wanted in values:
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


def _descriptors(connection: int, output: int) -> None:
    """Arrange 0 = /dev/null, 1 and 2 = captured output, 3 = the job's socket, and close the rest."""
    sources = (os.open("/dev/null", os.O_RDONLY), output, output, connection)
    high = [os.dup2(source, 100 + target, inheritable=False) for target, source in enumerate(sources)]
    for target, source in enumerate(high):
        os.dup2(source, target, inheritable=True)
    os.closerange(JOB_SOCKET + 1, 4096)
