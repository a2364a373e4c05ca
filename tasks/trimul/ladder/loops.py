"""The triangle as plain loops, compiled by numba."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any
Data = dict[str, Array]

PROJECTIONS = ("left", "left_gate", "right", "right_gate", "out_gate")


def norm(x: Array, weight: Array, bias: Array) -> Array:
    """Return the layer norm over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * weight + bias


def sigmoid(x: Array) -> Array:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))


@njit(fastmath=True)
def triangle(left: Array, right: Array) -> Array:
    """Return the sum over k of left[b, i, k, h] right[b, j, k, h]."""
    batch, n, _, hidden = left.shape
    o = np.zeros_like(left)
    for b in range(batch):
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    for h in range(hidden):
                        o[b, i, j, h] += left[b, i, k, h] * right[b, j, k, h]
    return o


def custom_kernel(data: Data) -> Array:
    """Return the update [B, N, N, C] of `data`."""
    mask = data["mask"][..., None]
    z = norm(data["x"], data["norm_w"], data["norm_b"])
    left, left_gate, right, right_gate, gate = (z @ data[name].T for name in PROJECTIONS)
    o = triangle(left * mask * sigmoid(left_gate), right * mask * sigmoid(right_gate))
    o = norm(o, data["out_norm_w"], data["out_norm_b"]) * sigmoid(gate)
    return o @ data["out"].T
