"""The policy on an OpenAI-compatible server: vLLM, SGLang, or any other, as a `Sampler`.

Invariant: what a completion says of its tokens is either the server's own record, one log-probability a token at the
sampling temperature, or recomputed by the trainer's forward and marked `rescored`; never a guess.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sia_flow.policy.adapter_files import adapter_digest
from sia_flow.policy.asking import Asker, LostModelError
from sia_flow.policy.bases import base_digest
from sia_flow.policy.checkpoint import load_tokenizer
from sia_flow.policy.endpoint import Client, Endpoint
from sia_flow.policy.prompts import render, said
from sia_flow.policy.requests import check_request
from sia_flow.policy.rows import TokenRows
from sia_flow.policy.shelf import AdapterShelf
from sia_flow.policy.versions import version_of
from sia_flow.policy.wire import Choice
from sia_flow.protocols import Completion, SampleRequest

if TYPE_CHECKING:
    from torch import Tensor

SCORED_AT_ONCE = 32
ROOM = 1 << 20
"""Positions of a checkpoint that does not say how many it has."""


class Rescorer(Protocol):
    """What recomputes log-probabilities: a policy in this process."""

    def logprobs(self, rows: TokenRows, *, base: bool = False, temperature: float = 1.0) -> Tensor:
        """Return the log-probabilities [B, T] of the completion tokens, 0 where padded."""


class ServedPolicy:
    """A policy whose weights a server holds; implements `protocols.Sampler`, for several threads at once."""

    def __init__(self, client: Client, base: Path, shelf: AdapterShelf, rescorer: Callable[[], Rescorer]) -> None:
        self._asker = Asker(client)
        self._shelf = shelf
        self._tokenizer = load_tokenizer(base)
        self._base = base_digest(base)
        self._version = version_of(self._base)
        self._room = _room(base)
        self._rescorer = rescorer
        self._load: Callable[[], str] | None = None
        self._loads = 0
        self._lock = threading.RLock()
        """Held for all that is not waiting for completions: tokenizers and models here serve one thread at a time."""

    @classmethod
    def connect(cls, endpoint: Endpoint, base: Path, folder: Path, rescorer: Callable[[], Rescorer]) -> ServedPolicy:
        """Return the base on a server.

        Args:
            endpoint: where the server is.
            base: folder of the checkpoint that it serves; its tokenizer and digest are read here.
            folder: for adapters; the server sees it under the same path.
            rescorer: gives the policy that recomputes log-probabilities, should that be needed.

        Raises SpecError for a base or a key that is not there.
        """
        client = Client(endpoint)
        return cls(client, base, AdapterShelf(client, folder), rescorer)

    @property
    def version(self) -> str:
        """Name of the exact weights, as a local policy has it."""
        return self._version

    @property
    def at_once(self) -> int:
        """Requests that the endpoint may have at a time."""
        return self._asker.client.endpoint.concurrency

    def hold(self) -> ServedPolicy:
        """Return itself: it samples from what it was told to use."""
        return self

    def use(self, digest: str, write: Callable[[Path], None]) -> None:
        """Sample from an adapter, which the server is made to load; `write` lays its files out in a folder.

        Raises SpecError when the server loads no adapters or refuses this one.
        """
        self._load = functools.partial(self._shelf.put, digest, write)
        self._asker.model = self._load()
        self._loads += 1
        self._version = version_of(self._base, digest)

    def use_folder(self, adapter: Path) -> None:
        """Sample from the adapter in a folder. Raises as `use`, and TrainingError when it is none."""
        self.use(adapter_digest(adapter), functools.partial(_copy, adapter))

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Completion]]:
        """Return `n` completions for each request, in order.

        Raises RequestError for a request out of range, SpecError for what the server refuses, InfrastructureError when
        it is not there.
        """
        if not requests:
            return []
        with self._lock:
            prompts = [self._prompt(request) for request in requests]
            self._asker.settle(requests[0], prompts[0])
            loads = self._loads
        try:
            answers = self._gather(requests, prompts)
        except LostModelError:
            if self._load is None:
                raise
            self._reload(loads)
            answers = self._gather(requests, prompts)
        with self._lock:
            drafts = [
                [self._completion(request, prompt, choice) for choice in choices]
                for request, prompt, choices in zip(requests, prompts, answers, strict=True)
            ]
            self._rescore(requests, drafts)
        return drafts

    def _reload(self, loads: int) -> None:
        """Load the adapter again, since a server that was started anew has its base alone.

        Nothing is to be done where another thread has loaded it since the `loads`-th time.
        """
        with self._lock:
            if loads == self._loads and self._load is not None:
                self._shelf.forget()
                self._asker.model = self._load()
                self._loads += 1

    def _prompt(self, request: SampleRequest) -> tuple[int, ...]:
        check_request(request, self._room)
        return render(self._tokenizer, request.messages, self._room - request.max_tokens, request.tools)

    def _gather(self, requests: Sequence[SampleRequest], prompts: Sequence[tuple[int, ...]]) -> list[list[Choice]]:
        """Ask for all, as many at a time as the endpoint allows; the first fault ends what has not begun."""
        if len(requests) == 1:
            return [self._asker.ask(requests[0], prompts[0])]
        workers = min(self._asker.client.endpoint.concurrency, len(requests))
        with ThreadPoolExecutor(workers, thread_name_prefix="sample") as pool:
            futures = [pool.submit(self._asker.ask, *pair) for pair in zip(requests, prompts, strict=True)]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def _completion(self, request: SampleRequest, prompt: tuple[int, ...], choice: Choice) -> Completion:
        """Return what the server gave; where it has no whole log-probabilities, the completion is to be rescored."""
        ids, logprobs = choice.ids, choice.logprobs
        if ids is None:
            ids, logprobs = self._encode(choice), None
        if request.temperature == 0:
            logprobs = (0.0,) * len(ids)
        elif request.temperature != 1.0 and logprobs is not None and not self._asker.scales(prompt, ids):
            logprobs = None
        text, calls = (choice.text, choice.calls) if choice.ids is None else said(self._tokenizer, ids)
        rescored = logprobs is None or choice.ids is None
        return Completion(text, prompt, ids, logprobs or (), choice.finish, rescored, calls)

    def _encode(self, choice: Choice) -> tuple[int, ...]:
        """Return the tokens that a text most likely was: as the tokenizer has it, ended where the server says so."""
        ids = [int(token) for token in self._tokenizer.encode(choice.text, add_special_tokens=False)]
        end = int(self._tokenizer.eos_token_id or 0)
        return tuple(ids if ids and choice.finish == "length" else [*ids, end])

    def _rescore(self, requests: Sequence[SampleRequest], drafts: list[list[Completion]]) -> None:
        """Fill in the log-probabilities that are missing, by temperature."""
        import torch

        places: dict[float, list[tuple[int, int]]] = {}
        for i, completions in enumerate(drafts):
            for k, completion in enumerate(completions):
                if not completion.logprobs:
                    places.setdefault(requests[i].temperature, []).append((i, k))
        for temperature, found in places.items():
            for start in range(0, len(found), SCORED_AT_ONCE):
                part = found[start : start + SCORED_AT_ONCE]
                rows = TokenRows.of(drafts[i][k] for i, k in part)
                with torch.no_grad():
                    table = self._rescorer().logprobs(rows, temperature=temperature).tolist()
                for (i, k), line in zip(part, table, strict=True):
                    width = len(drafts[i][k].completion_ids)
                    drafts[i][k] = replace(drafts[i][k], logprobs=tuple(line[:width]))


def _room(base: Path) -> int:
    config = json.loads((base / "config.json").read_bytes())
    return int(config.get("max_position_embeddings", ROOM))


def _copy(adapter: Path, place: Path) -> None:
    for file in adapter.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
