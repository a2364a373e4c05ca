"""Torch under fixed conditions for the length of a pull, restored afterwards.

Invariant: inside, equal inputs give equal bits on one machine; the order of a parallel sum decides its low
bits, hence one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic() -> Iterator[None]:
    """Run with one torch thread and deterministic kernels; on a GPU, those that exist."""
    threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=lenient)
        torch.set_num_threads(threads)
