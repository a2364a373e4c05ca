"""Landlock rule sets: read-only paths and nothing else, no TCP, no signals out of the domain.

Invariant: each job enters a domain of its own, so at ABI 6 or later jobs can signal neither each other nor
the zygote. Source of the numbers: Linux `include/uapi/linux/landlock.h`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from . import linux

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_BASE = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_BIND_AND_CONNECT_TCP = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3
SIGNAL_SCOPE_ABI = 6


def abi() -> int:
    """Return the kernel's Landlock ABI, 0 where there is none."""
    return max(0, int(linux.libc.syscall(_CREATE, None, ctypes.c_size_t(0), 1)))


def _attributes(version: int) -> bytes:
    files = _BASE
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEVICE)):
        files |= right if version >= since else 0
    fields = [files]
    if version >= 4:
        fields.append(_BIND_AND_CONNECT_TCP)
    if version >= SIGNAL_SCOPE_ABI:
        fields.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    return struct.pack(f"={len(fields)}Q", *fields)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        rule = struct.pack("=Qi", rights, handle)
        linux.check(linux.libc.syscall(_ADD, ruleset, 1, rule, 0), f"landlock rule for {path}")
    finally:
        os.close(handle)


def ruleset(readable: Iterable[str], listable: Iterable[str] = (), writable: Iterable[str] = ()) -> int:
    """Return a descriptor of a rule set that lets `readable` paths be read and /dev/null be written.

    In `listable` folders names can be read, of the folders below them too, but no file. In `writable` folders
    everything is allowed.

    Raises OSError where the kernel has no Landlock.
    """
    attributes = _attributes(abi())
    size = ctypes.c_size_t(len(attributes))
    handle = linux.check(linux.libc.syscall(_CREATE, attributes, size, 0), "landlock_create_ruleset")
    os.set_inheritable(handle, False)
    for path in readable:
        rights = _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)  # noqa: PTH112 - start-up time
        _allow(handle, path, rights)
    for path in listable:
        _allow(handle, path, _READ_DIR)
    for path in writable:
        _allow(handle, path, struct.unpack_from("=Q", attributes)[0])
    _allow(handle, "/dev/null", _READ_FILE | _WRITE_FILE)
    for device in ("/dev/urandom", "/dev/zero"):
        _allow(handle, device, _READ_FILE)
    return handle


def restrict(handle: int) -> None:
    """Enter a new domain of the rule set, for good."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.check(linux.libc.syscall(_RESTRICT, handle, 0), "landlock_restrict_self")
