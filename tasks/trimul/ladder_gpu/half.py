"""Half precision where values are bounded: projections as one product, the triangle as a batch over channels."""

from __future__ import annotations

import torch
from torch.nn import functional

PROJECTIONS = ("left", "right", "left_gate", "right_gate", "out_gate")


def custom_kernel(data: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the update [B, N, N, C] of `data`."""
    x, hidden = data["x"], data["out"].shape[1]
    batch, n, _, _ = x.shape
    z = functional.layer_norm(x, data["norm_w"].shape, data["norm_w"], data["norm_b"]).half()
    weights = torch.cat([data[name] for name in PROJECTIONS]).half()
    p = torch.matmul(weights, z.reshape(batch, n * n, -1).transpose(1, 2))
    gates = p[:, 2 * hidden :].sigmoid()
    pair = p[:, : 2 * hidden] * gates[:, : 2 * hidden] * data["mask"].reshape(batch, 1, -1).half()
    left, right = pair.reshape(batch, 2, hidden, n, n).unbind(1)
    o = torch.matmul(left, right.transpose(-1, -2)).reshape(batch, hidden, -1).transpose(1, 2).float()
    o = functional.layer_norm(o, data["out_norm_w"].shape, data["out_norm_w"], data["out_norm_b"])
    o = (o * gates[:, 2 * hidden :].transpose(1, 2)).half() @ data["out"].half().T
    return o.float().reshape(x.shape)
