"""The C library's heap, laid out so that a fork fills large arrays with few page faults.

Invariant: this changes where memory comes from and nothing else. A C library without glibc's calls keeps its own ways.

A fork of the zygote would fill what the heap had free there: pages that are copied one by one before they are
overwritten. So large arrays of the warming stay out of the heap (`begin`), and before the first fork what is free
goes back to the kernel and the heap's end becomes fresh memory that the kernel may hand out in huge pages (`settle`).
"""

from __future__ import annotations

import ctypes
import mmap

from . import linux

RESERVE = 64 << 20
"""Bytes of address space at the heap's end; they cost nothing until they are touched."""
_OWN_MAPPING = 128 << 10
"""Bytes from which on an array of the warming gets a mapping of its own, always; by default glibc raises the bound."""
_LARGEST = 32 << 20
"""The highest such bound that glibc takes."""
_HUGE_PAGE = 2 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def begin() -> None:
    """Keep large arrays out of the heap from now on."""
    _tell(_MMAP_THRESHOLD, _OWN_MAPPING)


def settle() -> None:
    """Give free memory back, and make the heap end in fresh memory for the forks' arrays."""
    trim = getattr(linux.libc, "malloc_trim", None)
    if trim is None:
        return
    trim(ctypes.c_size_t(0))
    # What is free at the end stays there: nothing is given back, neither now nor by the forks.
    if not (_tell(_TRIM_THRESHOLD, 1 << 30) and _tell(_MMAP_THRESHOLD, _LARGEST)):
        return
    start = _end_of_heap()
    parts = [_malloc(_LARGEST >> 1) for _ in range(RESERVE // (_LARGEST >> 1))]
    for part in parts:
        linux.libc.free(ctypes.c_void_p(part))
    first = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    size = _end_of_heap() - first
    if size > 0:
        # Refused where the kernel has no huge pages; then its small ones serve.
        linux.libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), ctypes.c_int(mmap.MADV_HUGEPAGE))


def _tell(option: int, value: int) -> bool:
    mallopt = getattr(linux.libc, "mallopt", None)
    return mallopt is not None and mallopt(ctypes.c_int(option), ctypes.c_int(value)) == 1


def _malloc(size: int) -> int | None:
    malloc = linux.libc.malloc
    malloc.restype = ctypes.c_void_p
    found: int | None = malloc(ctypes.c_size_t(size))
    return found


def _end_of_heap() -> int:
    sbrk = linux.libc.sbrk
    sbrk.restype = ctypes.c_void_p
    return int(sbrk(ctypes.c_ssize_t(0)) or 0)
