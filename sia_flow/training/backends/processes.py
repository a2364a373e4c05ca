"""The processes of a sharded engine, started by `accelerate launch`: one leads, the others hear its verbs.

Invariant: what is sent is what arrives, its tensors on the receiver's device; only processes of one launch, which
trust each other, speak here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = timedelta(days=7)
"""Followers wait while the leader samples and verifies."""


def device() -> torch.device:
    """Return where this process computes: a GPU of its own, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def leads() -> bool:
    """Say whether this process leads."""
    return dist.get_rank() == 0


@contextmanager
def joined() -> Iterator[bool]:
    """Join the processes of the launch; say whether this one leads. At its end the leader lets the others go."""
    place = device()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield leads()
    finally:
        if leads():
            tell("end")
        dist.destroy_process_group()


def tell(*verb: object) -> None:
    """Send a verb with its arguments to all that follow."""
    buffer = io.BytesIO()
    torch.save(verb, buffer)
    dist.broadcast_object_list([buffer.getvalue()], src=0, device=torch.device("cpu"))


def hear() -> tuple[Any, ...]:
    """Wait for the leader's next verb and return it with its arguments."""
    found: list[Any] = [None]
    dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    # The leader is a process of the same launch: what it sends are our own classes, not data from elsewhere.
    verb = torch.load(io.BytesIO(found[0]), map_location=device(), weights_only=False)
    return tuple(verb)
