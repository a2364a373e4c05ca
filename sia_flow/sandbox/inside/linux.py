"""The few Linux calls that Python 3.11's standard library lacks; every failure is an OSError that names
the call.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

CAP_DAC_READ_SEARCH = 1 << 2

_CAPABILITY_VERSION_3 = 0x20080522
_MNT_DETACH = 2
_MOUNT_SETATTR, _ATTRIBUTE_READ_ONLY = 442, 1
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000

libc = ctypes.CDLL(None, use_errno=True)
for _name in ("unshare", "setns", "mount", "prctl", "capset"):
    # Looked up here, once: a search through every loaded library is dear in a fresh fork.
    getattr(libc, _name)


def check(result: int, what: str) -> int:
    """Return `result`, or raise OSError with the C library's errno when it is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount `source` on `target`."""
    result = libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)
    check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take a mount away, even from those that use it."""
    check(libc.umount2(target.encode(), ctypes.c_int(_MNT_DETACH)), f"umount {target}")


def read_only_mounts() -> None:
    """Make every mount of this namespace read-only. Raises OSError on a kernel before 5.12."""
    attributes = struct.pack("=4Q", _ATTRIBUTE_READ_ONLY, 0, 0, 0)
    number = ctypes.c_long(_MOUNT_SETATTR)
    arguments = (ctypes.c_int(_AT_FDCWD), b"/", ctypes.c_uint(_AT_RECURSIVE), attributes, ctypes.c_size_t(32))
    check(libc.syscall(number, *arguments), "mount_setattr")


def private_mounts() -> None:
    """Stop mounts from travelling to and from other mount namespaces."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def unshare(flags: int) -> None:
    """Leave the given namespaces for fresh ones."""
    check(libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(namespace: int, kind: int) -> None:
    """Enter the namespace behind a file descriptor."""
    check(libc.setns(ctypes.c_int(namespace), ctypes.c_int(kind)), "setns")


def prctl(option: int, argument: int = 0, pointer: ctypes.c_void_p | None = None) -> None:
    """Set one property of this process."""
    check(libc.prctl(option, ctypes.c_ulong(argument), pointer, 0, 0), f"prctl {option}")


def drop_capabilities(keep: int = 0) -> None:
    """Give up every capability but those whose bits `keep` has; with no_new_privs set they cannot come back."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    check(libc.capset(header, struct.pack("=6I", keep, keep, 0, 0, 0, 0)), "capset")


def map_user(proc: int, uid: int, gid: int) -> None:
    """Map one user and one group onto themselves in a fresh user namespace.

    `proc` is a descriptor of a proc file system that shows this process.
    """
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        handle = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)
