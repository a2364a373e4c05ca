"""What the sandbox does once before it forks for timed programs; it offers no function to them.

Invariant: every program and the reference start from the same state: one warm compiler, and an allocator that keeps
freed memory, so that a call's time is not that of page faults.
"""

from __future__ import annotations

import ctypes
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30


def warm(_: dict[str, Any]) -> None:
    """Set up the allocator and compile once, since the first compilation of a process takes a second longer."""
    import numpy as np
    from numba import njit

    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, _KEPT)
        library.mallopt(_MMAP_THRESHOLD, _KEPT)

    def gate(t: Any, s: Any) -> Any:
        return t / (1 + np.exp(-s))

    njit(gate)(np.ones(2, np.float32), np.ones(2, np.float32))
