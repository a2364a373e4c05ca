"""The same einsums on the inputs as they come, in float32."""

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
    mask = data["mask"][..., None]
    z = norm(data["x"], data["norm_w"], data["norm_b"])

    def linear(name: str) -> Array:
        """Return z times a weight, [B, N, N, H]."""
        return np.einsum("bijc,hc->bijh", z, data[name])

    left = linear("left") * mask * sigmoid(linear("left_gate"))
    right = linear("right") * mask * sigmoid(linear("right_gate"))
    gate = sigmoid(linear("out_gate"))
    o = np.einsum("bikd,bjkd->bijd", left, right)
    o = norm(o, data["out_norm_w"], data["out_norm_b"]) * gate
    return np.einsum("bijh,ch->bijc", o, data["out"])
