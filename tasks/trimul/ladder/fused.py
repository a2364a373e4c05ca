"""Channels first with BLAS for the products, and one compiled pass each for the norms and the gates."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any
Data = dict[str, Array]

PROJECTIONS = ("left", "right", "left_gate", "right_gate", "out_gate")
ONE, EPS = np.float32(1), np.float32(1e-5)


@njit(fastmath=True)
def norm(x: Array, weight: Array, bias: Array) -> Array:
    """Return the layer norm over the last axis."""
    y = np.empty_like(x)
    rows, channels = x.shape
    for i in range(rows):
        mean = np.float32(0)
        square = np.float32(0)
        for c in range(channels):
            mean += x[i, c]
        mean /= np.float32(channels)
        for c in range(channels):
            square += (x[i, c] - mean) * (x[i, c] - mean)
        scale = ONE / np.sqrt(square / np.float32(channels) + EPS)
        for c in range(channels):
            y[i, c] = (x[i, c] - mean) * scale * weight[c] + bias[c]
    return y


@njit(fastmath=True)
def pair_gate(p: Array, gates: Array, mask: Array) -> None:
    """Multiply by the mask and the gate, whose exponentials are given."""
    rows, pairs = p.shape
    for h in range(rows):
        for i in range(pairs):
            p[h, i] *= mask[i] / (ONE + gates[h, i])


@njit(fastmath=True)
def out_norm_gate(o: Array, gates: Array, weight: Array, bias: Array) -> None:
    """Normalise over the hidden channels and gate, in place."""
    hidden, pairs = o.shape
    mean = np.zeros(pairs, np.float32)
    square = np.zeros(pairs, np.float32)
    for h in range(hidden):
        for i in range(pairs):
            mean[i] += o[h, i]
            square[i] += o[h, i] * o[h, i]
    for i in range(pairs):
        mean[i] /= np.float32(hidden)
        square[i] = ONE / np.sqrt(max(square[i] / np.float32(hidden) - mean[i] * mean[i], np.float32(0)) + EPS)
    for h in range(hidden):
        for i in range(pairs):
            o[h, i] = ((o[h, i] - mean[i]) * square[i] * weight[h] + bias[h]) / (ONE + gates[h, i])


def custom_kernel(data: Data) -> Array:
    """Return the update [B, N, N, C] of `data`."""
    x, hidden = data["x"], data["out"].shape[1]
    batch, n, _, channels = x.shape
    weights = np.concatenate([data[name] for name in PROJECTIONS])
    np.negative(weights[2 * hidden :], out=weights[2 * hidden :])
    out = np.empty_like(x)
    for b in range(batch):
        p = weights @ norm(x[b].reshape(-1, channels), data["norm_w"], data["norm_b"]).T
        gates = p[2 * hidden :]
        np.exp(gates, out=gates)
        pair_gate(p[: 2 * hidden], gates, data["mask"][b].reshape(-1))
        left, right = p[: 2 * hidden].reshape(2, hidden, n, n)
        o = (left @ right.transpose(0, 2, 1)).reshape(hidden, -1)
        out_norm_gate(o, gates[2 * hidden :], data["out_norm_w"], data["out_norm_b"])
        out[b] = (o.T @ data["out"].T).reshape(n, n, channels)
    return out
