"""Channels first: every pass runs along the pairs, the triangle's operands lie ready for BLAS, passes work in place."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
Data = dict[str, Array]

PROJECTIONS = ("left", "right", "left_gate", "right_gate", "out_gate")


def custom_kernel(data: Data) -> Array:
    """Return the update [B, N, N, C] of `data`."""
    x, hidden = data["x"], data["out"].shape[1]
    batch, n, _, channels = x.shape
    weights = np.concatenate([data[name] for name in PROJECTIONS])
    bias = (weights @ data["norm_b"])[:, None]
    weights = weights * data["norm_w"]
    out = np.empty_like(x)
    for b in range(batch):
        z = x[b].reshape(-1, channels)
        mean = z.mean(axis=1)
        variance = np.einsum("nc,nc->n", z, z) / channels - mean * mean
        z = (z - mean[:, None]) * (1 / np.sqrt(variance + np.float32(1e-5)))[:, None]
        p = weights @ z.T
        p += bias
        gates = p[2 * hidden :]
        np.exp(np.negative(gates, out=gates), out=gates)
        gates += 1
        np.reciprocal(gates, out=gates)
        pair = p[: 2 * hidden]
        pair *= gates[: 2 * hidden]
        pair *= data["mask"][b].reshape(-1)
        left, right = pair.reshape(2, hidden, n, n)
        o = (left @ right.transpose(0, 2, 1)).reshape(hidden, -1)
        o -= o.mean(axis=0)
        variance = np.einsum("hn,hn->n", o, o) / hidden
        o *= 1 / np.sqrt(variance + np.float32(1e-5))
        o *= data["out_norm_w"][:, None]
        o += data["out_norm_b"][:, None]
        o *= gates[2 * hidden :]
        out[b] = (o.T @ data["out"].T).reshape(n, n, channels)
    return out
