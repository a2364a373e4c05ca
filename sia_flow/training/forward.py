"""Teacher forcing: log-probabilities of the recorded tokens under the adapter and under the bare base.

Invariant: log-probabilities are those of the sampling distribution, at the temperature of each row.
Splitting a batch into chunks changes memory, not the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sia_flow.training.batch import Batch, Chunk
from sia_flow.training.types import AdapterModel


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch under the policy and under the base, without gradients."""

    logprobs: Tensor
    """[N]"""
    base: Tensor
    """[N]"""
    kl: float
    """Exact KL(policy || base) along the sampled tokens, nats per row."""
    entropy: float
    """Exact, nats per token."""
    values: Tensor | None = None
    """[N] what the critic expects before each token; None without one."""


Head = Callable[[Tensor], Tensor]
"""Hidden states [n, H] -> values [n, 1]."""

OnStates = Callable[[Chunk, Tensor], None]
"""Told once of each chunk's hidden states before the sampled tokens, [n, H] float32, detached."""


class Scored(NamedTuple):
    """A chunk under a model."""

    log_p: Tensor
    """[n, V] the log-distribution from which each sampled token was drawn."""
    states: Tensor
    """[n, H] what the model knew then, detached; [n, 0] where nobody asked."""


def score(model: AdapterModel, chunk: Chunk, *, states: bool = False) -> Scored:
    """Return the distributions of a chunk's sampled tokens, with gradient, and the `states` if asked for."""
    output = model(input_ids=chunk.tokens, use_cache=False, output_hidden_states=states)
    drawn = chunk.sampled[:, 1:]
    heat = chunk.temperature[torch.nonzero(drawn)[:, 0]].unsqueeze(1)
    log_p = torch.log_softmax(output.logits[:, :-1][drawn].float() / heat, dim=-1)
    hidden = output.hidden_states[-1][:, :-1][drawn].detach().float() if states else log_p.new_empty((len(log_p), 0))
    return Scored(log_p, hidden)


def targets(chunk: Chunk) -> Tensor:
    """Return the sampled tokens of a chunk, [n]."""
    return chunk.tokens[:, 1:][chunk.sampled[:, 1:]]


def logprobs(model: AdapterModel, chunk: Chunk, on_states: OnStates | None = None) -> Tensor:
    """Return the log-probability of each sampled token, [n], with gradient."""
    log_p, states = score(model, chunk, states=on_states is not None)
    if on_states is not None:
        on_states(chunk, states)
    return log_p.gather(1, targets(chunk).unsqueeze(1)).squeeze(1)


@torch.no_grad()
def measure(model: AdapterModel, batch: Batch, calls: int, head: Head | None = None) -> Measured:
    """Return log-probabilities under policy and base with the exact divergence and entropy, values with a `head`."""
    return as_measured(torch.cat([measure_chunk(model, chunk, head) for chunk in batch.chunks(calls)], dim=1), batch)


def as_measured(table: Tensor, batch: Batch) -> Measured:
    """Return what `measure_chunk` found for the distinct calls, [4 or 5, M], as it is for the batch's stream."""
    current, base, divergence, entropy, *values = table[:, batch.token_source]
    return Measured(
        current,
        base,
        float(divergence.double().sum()) / len(batch.row_call),
        float(entropy.double().mean()),
        values[0] if values else None,
    )


def measure_chunk(model: AdapterModel, chunk: Chunk, head: Head | None) -> Tensor:
    """Return log-probability, the base's, divergence, entropy and any value at each sampled token, [4 or 5, n]."""
    log_p, states = score(model, chunk, states=head is not None)
    with model.disable_adapter():
        log_q = score(model, chunk).log_p
    p, index = log_p.exp(), targets(chunk).unsqueeze(1)
    chosen, base = (scores.gather(1, index).squeeze(1) for scores in (log_p, log_q))
    values = [] if head is None else [head(states).squeeze(1)]
    return torch.stack([chosen, base, (p * (log_p - log_q)).sum(1), -(p * log_p).sum(1), *values])


def backward(
    model: AdapterModel,
    batch: Batch,
    calls: int,
    objective: Callable[[Tensor], Tensor],
    on_states: OnStates | None = None,
) -> tuple[float, Tensor]:
    """Add the gradient of `objective(log-probabilities [N])` to the adapter; return the loss and its input.

    In one chunk this is plain back-propagation. In several, the objective is differentiated with respect to
    the distinct calls' log-probabilities first and each chunk is run again with its part of that vector: the
    same gradient, for any objective.
    """
    chunks, source = list(batch.chunks(calls)), batch.token_source
    if len(chunks) == 1:
        stream = logprobs(model, chunks[0], on_states)[source]
        loss = objective(stream)
        torch.autograd.backward(loss)
        return loss.item(), stream.detach()
    with torch.no_grad():
        leaf = torch.cat([logprobs(model, chunk) for chunk in chunks])
    leaf.requires_grad_()
    loss = objective(leaf[source])
    (slope,) = torch.autograd.grad(loss, leaf)
    for chunk in chunks:
        torch.autograd.backward(logprobs(model, chunk, on_states), slope[chunk.start : chunk.stop])
    return loss.item(), leaf.detach()[source]
