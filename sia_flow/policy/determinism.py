"""Torch under fixed conditions: thread count, deterministic kernels, random state; restored afterwards.

Invariant: inside these blocks equal inputs give equal bits on one machine, whatever the caller has set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fixed_threads(threads: int = 1) -> Iterator[None]:
    """Run with `threads` torch threads: the order of a parallel sum decides its low bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(seed: int, threads: int = 1) -> Iterator[None]:
    """Run with deterministic kernels and a seeded global generator, for library code that draws from it."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    with fixed_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
