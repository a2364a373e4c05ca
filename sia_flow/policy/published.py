"""A policy that trains here and is sampled on a server: its adapter is published whenever it has changed.

Invariant: what is sampled carries the version of the adapter that the trainer holds at that moment, and the server's
log-probabilities are held against the trainer's own before they are believed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sia_flow.errors import TrainingError
from sia_flow.policy.rows import TokenRows
from sia_flow.policy.served import Rescorer, ServedPolicy
from sia_flow.protocols import Completion, SampleRequest

CHECKED = 4
"""Completions of each batch of rollouts that the trainer computes again."""
TOLERANCE = 0.5
"""Nats a token between server and trainer, on average. 16-bit kernels and 4-bit weights stay far below; another
model, a base in place of its adapter after some training, or another temperature does not."""


class Trained(Rescorer, Protocol):
    """The part of a local policy that publishing needs."""

    @property
    def version(self) -> str:
        """Name of the exact weights as they are now."""

    def adapter_digest(self) -> str:
        """Return the digest of the adapter as it is now."""

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as PEFT reads it."""


class PublishedPolicy:
    """A trained policy seen through a server; implements `protocols.Sampler`."""

    def __init__(self, served: ServedPolicy, trained: Trained, *, compare: bool = True) -> None:
        """Publish `trained`; `compare` is off where it cannot compute by itself, its base being split."""
        self._served = served
        self._trained = trained
        self._compares = compare

    @property
    def version(self) -> str:
        """Name of the exact weights as they are now."""
        return self._trained.version

    @property
    def at_once(self) -> int:
        """Requests that the server may have at a time."""
        return self._served.at_once

    def hold(self) -> HeldPolicy:
        """Publish the adapter as it is now and return what samples from it. Raises as `ServedPolicy.use`."""
        self._served.use(self._trained.adapter_digest(), self._trained.save_adapter)
        return HeldPolicy(self._served, self._trained, self._trained.version, CHECKED if self._compares else 0)

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Completion]]:
        """Return `n` completions for each request, in order, of the adapter as it is now.

        Raises TrainingError when the server samples from other weights than those that are trained; else as
        `ServedPolicy.sample`.
        """
        return self.hold().sample(requests)


class HeldPolicy:
    """A published adapter that does not move; implements `protocols.Sampler`, for several threads at once."""

    def __init__(self, served: ServedPolicy, trained: Trained, version: str, checks: int) -> None:
        """Sample from what `served` was told to use; hold the first `checks` completions against `trained`."""
        self._served = served
        self._trained = trained
        self._version = version
        self._checks = checks
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Name of the exact weights."""
        return self._version

    @property
    def at_once(self) -> int:
        """Requests that the server may have at a time."""
        return self._served.at_once

    def hold(self) -> HeldPolicy:
        """Return itself."""
        return self

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Completion]]:
        """Return `n` completions for each request, in order. Raises as `PublishedPolicy.sample`."""
        found = self._served.sample(requests)
        with self._lock:
            self._compare(requests, found)
        return found

    def _compare(self, requests: Sequence[SampleRequest], found: Sequence[Sequence[Completion]]) -> None:
        import torch

        pairs = [
            (request.temperature, completion)
            for request, completions in zip(requests, found, strict=True)
            for completion in completions[:1]
            if request.temperature > 0 and not completion.rescored
        ]
        for temperature, completion in pairs[: self._checks]:
            self._checks -= 1
            with torch.no_grad():
                own = self._trained.logprobs(TokenRows.of([completion]), temperature=temperature)[0].tolist()
            gap = sum(abs(a - b) for a, b in zip(own, completion.logprobs, strict=True)) / len(own)
            if not gap < TOLERANCE:
                raise TrainingError(
                    f"the server's log-probabilities are {gap:.2f} nats a token away from the trainer's: it samples "
                    "from another model, or leaves the adapter out; compare policy.base with what it serves"
                )
