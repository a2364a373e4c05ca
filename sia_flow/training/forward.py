"""Teacher forcing: log-probabilities of the recorded tokens under the adapter and under the bare base.

Invariant: log-probabilities are those of the sampling distribution, at the temperature of each row.
Splitting a batch into chunks changes memory, not the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def distribution(model: AdapterModel, chunk: Chunk) -> Tensor:
    """Return the log-distribution from which each sampled token was drawn, [n, V]."""
    logits = model(input_ids=chunk.tokens, use_cache=False).logits[:, :-1]
    drawn = chunk.sampled[:, 1:]
    heat = chunk.temperature[torch.nonzero(drawn)[:, 0]].unsqueeze(1)
    return torch.log_softmax(logits[drawn].float() / heat, dim=-1)


def targets(chunk: Chunk) -> Tensor:
    """Return the sampled tokens of a chunk, [n]."""
    return chunk.tokens[:, 1:][chunk.sampled[:, 1:]]


def logprobs(model: AdapterModel, chunk: Chunk) -> Tensor:
    """Return the log-probability of each sampled token, [n], with gradient."""
    return distribution(model, chunk).gather(1, targets(chunk).unsqueeze(1)).squeeze(1)


@torch.no_grad()
def measure(model: AdapterModel, batch: Batch, calls: int) -> Measured:
    """Return log-probabilities under policy and base with the exact divergence and entropy."""
    pieces = [_measure_chunk(model, chunk) for chunk in batch.chunks(calls)]
    current, base, divergence, entropy = torch.cat(pieces, dim=1)[:, batch.token_source]
    return Measured(
        current, base, float(divergence.double().sum()) / len(batch.row_call), float(entropy.double().mean())
    )


def _measure_chunk(model: AdapterModel, chunk: Chunk) -> Tensor:
    """Return log-probability, the base's, divergence and entropy at each sampled token, [4, n]."""
    log_p = distribution(model, chunk)
    with model.disable_adapter():
        log_q = distribution(model, chunk)
    p, index = log_p.exp(), targets(chunk).unsqueeze(1)
    chosen, base = (scores.gather(1, index).squeeze(1) for scores in (log_p, log_q))
    return torch.stack([chosen, base, (p * (log_p - log_q)).sum(1), -(p * log_p).sum(1)])


def backward(
    model: AdapterModel, batch: Batch, calls: int, objective: Callable[[Tensor], Tensor]
) -> tuple[float, Tensor]:
    """Add the gradient of `objective(log-probabilities [N])` to the adapter; return the loss and its input.

    In one chunk this is plain back-propagation. In several, the objective is differentiated with respect to
    the distinct calls' log-probabilities first and each chunk is run again with its part of that vector: the
    same gradient, for any objective.
    """
    chunks, source = list(batch.chunks(calls)), batch.token_source
    if len(chunks) == 1:
        stream = logprobs(model, chunks[0])[source]
        loss = objective(stream)
        torch.autograd.backward(loss)
        return loss.item(), stream.detach()
    with torch.no_grad():
        leaf = torch.cat([logprobs(model, chunk) for chunk in chunks])
    leaf.requires_grad_()
    loss = objective(leaf[source])
    (slope,) = torch.autograd.grad(loss, leaf)
    for chunk in chunks:
        torch.autograd.backward(logprobs(model, chunk), slope[chunk.start : chunk.stop])
    return loss.item(), leaf.detach()[source]
