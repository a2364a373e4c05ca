"""The definition, written out literally in float64: what answers are compared with, and the speed of 1."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
Data = dict[str, Array]


def norm(x: Array, weight: Array, bias: Array) -> Array:
    """Return the layer norm over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * weight + bias


def sigmoid(x: Array) -> Array:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))


def custom_kernel(data: Data) -> Array:
    """Return the update [B, N, N, C] of `data`."""
    d = {name: array.astype(np.float64) for name, array in data.items()}
    mask = d["mask"][..., None]
    z = norm(d["x"], d["norm_w"], d["norm_b"])

    def linear(name: str) -> Array:
        """Return z times a weight, [B, N, N, H]."""
        return np.einsum("bijc,hc->bijh", z, d[name])

    left = linear("left") * mask * sigmoid(linear("left_gate"))
    right = linear("right") * mask * sigmoid(linear("right_gate"))
    gate = sigmoid(linear("out_gate"))
    o = np.einsum("bikd,bjkd->bijd", left, right)
    o = norm(o, d["out_norm_w"], d["out_norm_b"]) * gate
    return np.einsum("bijh,ch->bijc", o, d["out"])
