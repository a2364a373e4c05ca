"""A seccomp filter assembled by hand: no library needed, for x86_64 and aarch64.

Invariant: what is denied fails softly with EPERM (a probing library goes on), a foreign ABI kills the
process, and sockets of every family are denied, since a network namespace covers neither AF_VSOCK nor
AF_NETLINK. Layout of the filter's input: Linux `struct seccomp_data`.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import NamedTuple

from . import linux

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24
_X32_FIRST = 0x40000000
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = tuple(_AUDIT_ARCH)
"""Where the filter can be built."""
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX = 1

Numbers = tuple[int | None, int | None]
"""System call number on x86_64 and on aarch64; None where it does not exist."""

_DENIED: dict[str, Numbers] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "setns": (308, 268),
    "unshare": (272, 97),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "vhangup": (153, 58),
    "move_pages": (279, 239),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "set_mempolicy": (238, 237),
    "fanotify_init": (300, 262),
    "personality": (135, 92),
    # Memory that no rlimit and no RSS count sees, and System V objects that outlive their maker.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}

_METADATA: dict[str, Numbers] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
"""What Landlock does not cover; denied where there is no mount namespace."""

_CLONE3: Numbers = (435, 435)
_CLONE: Numbers = (56, 220)
_FORKS: tuple[Numbers, ...] = ((57, None), (58, None))
_CLONE_THREAD = 0x10000
_IOCTL: Numbers = (16, 29)
_SOCKET: Numbers = (41, 198)
_SOCKETPAIR: Numbers = (53, 199)
_PIDFD_SEND_SIGNAL: Numbers = (424, 424)
_SIGNALLING: tuple[Numbers, ...] = ((62, 129), (200, 130), (234, 131), (129, 138), (297, 240))


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _refuse(code: int = errno.EPERM) -> bytes:
    return _step(_RETURN, _ERRNO | code)


def _deny(number: int, code: int = errno.EPERM) -> list[bytes]:
    return [_step(_JUMP_EQUAL, number, 0, 1), _refuse(code)]


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """Run `body` for one system call, then load the number again."""
    body = [*body, _step(_LOAD, _NUMBER)]
    return [_step(_JUMP_EQUAL, number, 0, len(body)), *body]


def _head(machine: str) -> list[bytes]:
    steps = [
        _step(_LOAD, _ARCH),
        _step(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        steps += [_step(_JUMP_AT_LEAST, _X32_FIRST, 0, 1), _step(_RETURN, _KILL_PROCESS)]
    return steps


def _arguments(column: int) -> list[bytes]:
    """Return the rules on arguments: clone's flags, ioctl's terminal tricks, socketpair's family."""
    clone, ioctl, pair = _CLONE[column], _IOCTL[column], _SOCKETPAIR[column]
    assert clone is not None
    assert ioctl is not None
    assert pair is not None
    first, second = _step(_LOAD, _ARGUMENT_0), _step(_LOAD, _ARGUMENT_1)
    steps = _when(clone, [first, _step(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1), _refuse()])
    for request in (_TIOCSTI, _TIOCLINUX):
        steps += _when(ioctl, [second, _step(_JUMP_EQUAL, request, 0, 1), _refuse()])
    steps += _when(pair, [first, _step(_JUMP_EQUAL, _AF_UNIX, 1, 0), _refuse()])
    return steps


def _only_self(column: int, pid: int) -> list[bytes]:
    """Let the process signal itself and nobody else."""
    steps: list[bytes] = []
    for numbers in _SIGNALLING:
        number = numbers[column]
        assert number is not None
        steps += _when(number, [_step(_LOAD, _ARGUMENT_0), _step(_JUMP_EQUAL, pid, 1, 0), _refuse()])
    forbidden = _PIDFD_SEND_SIGNAL[column]
    assert forbidden is not None
    return steps + _deny(forbidden)


def _only_threads(column: int) -> list[bytes]:
    """Let the process start threads and no process."""
    clone = _CLONE[column]
    assert clone is not None
    steps = [step for numbers in _FORKS if (number := numbers[column]) is not None for step in _deny(number)]
    return steps + _when(clone, [_step(_LOAD, _ARGUMENT_0), _step(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0), _refuse()])


def build(
    *, metadata: bool = False, signals: int | None = None, lone: bool = False, machine: str | None = None
) -> bytes:
    """Return the filter, eight bytes an instruction.

    With `metadata` set, calls that change modes, owners, times and extended attributes are denied too. With
    `signals` set to a process id, signals may go to that id alone. With `lone` set no process may be started.
    Raises KeyError on another machine.
    """
    machine = machine or platform.machine()
    column = list(_AUDIT_ARCH).index(machine) if machine in _AUDIT_ARCH else -1
    steps = _head(machine)
    table = {**_DENIED, **(_METADATA if metadata else {}), "socket": _SOCKET}
    for _, numbers in sorted(table.items()):
        number = numbers[column]
        if number is not None:
            steps += _deny(number)
    # clone3 hides its flags in memory; ENOSYS makes the C library fall back to clone.
    clone3 = _CLONE3[column]
    assert clone3 is not None
    steps += _deny(clone3, errno.ENOSYS)
    steps += _arguments(column)
    if signals is not None:
        steps += _only_self(column, signals)
    if lone:
        steps += _only_threads(column)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Prepared(NamedTuple):
    """A filter in the kernel's form, made once and installed by every fork."""

    pointer: ctypes.c_void_p
    memory: tuple[object, ...]
    """What the pointer points into."""


def prepare(program: bytes) -> Prepared:
    """Lay a filter out in memory."""
    buffer = ctypes.create_string_buffer(program, len(program))
    packed = _Program(len(program) // 8, ctypes.addressof(buffer))
    return Prepared(ctypes.cast(ctypes.pointer(packed), ctypes.c_void_p), (buffer, packed))


def install(program: Prepared) -> None:
    """Put the filter on this process and all that it forks, for good. Raises OSError."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_SECCOMP, 2, program.pointer)
