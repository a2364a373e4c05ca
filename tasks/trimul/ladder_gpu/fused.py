"""Two Triton kernels round a batched product: norm, projections, gates and mask; then norm, gate and output map.

Channels go first between them, so that the product's operands lie ready. Values that go through half precision are
bounded: normalised rows by the square root of the channels, gates by one.
"""
# Triton gives arguments their types by value and wants constants in capitals.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, N803, PLR0913, PLR0917

import torch
import triton
import triton.language as tl

NAMES = ("left", "right", "left_gate", "right_gate", "out_gate")
BLOCK, CHUNK = 64, 64


@triton.jit
def rows_of(x, row, c, there, channels):
    """Return a tile of rows; what is not there is zero."""
    return tl.load(x + row[:, None] * channels + c[None, :], mask=there, other=0.0)


@triton.jit
def moments(x, row, inside, channels, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """Return mean and inverse deviation of rows, in two passes: one would cancel where a value is far out."""
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, channels, CHUNK):
        c = start + tl.arange(0, CHUNK)
        total += tl.sum(rows_of(x, row, c, inside[:, None] & (c < channels)[None, :], channels), 1)
    mean = total / channels
    square = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, channels, CHUNK):
        c = start + tl.arange(0, CHUNK)
        there = inside[:, None] & (c < channels)[None, :]
        value = tl.where(there, rows_of(x, row, c, there, channels) - mean[:, None], 0.0)
        square += tl.sum(value * value, 1)
    return mean, 1.0 / tl.sqrt(square / channels + 1e-5)


@triton.jit
def matrix(weights, number, c, channels, HIDDEN: tl.constexpr):
    """Return a tile [CHUNK, HIDDEN] of a weight's transpose."""
    place = number * HIDDEN * channels + tl.arange(0, HIDDEN)[None, :] * channels + c[:, None]
    return tl.load(weights + place, mask=(c < channels)[:, None], other=0.0)


@triton.jit
def flipped(row, per_batch, number, rows, HIDDEN: tl.constexpr):
    """Return where values of rows stand in an array [number, batch, HIDDEN, pairs]."""
    plane = (number * (rows // per_batch) + row // per_batch)[:, None] * HIDDEN + tl.arange(0, HIDDEN)[None, :]
    return plane * per_batch + (row % per_batch)[:, None]


@triton.jit
def project(
    x, norm_w, norm_b, weights, mask, pair, gate, rows, per_batch, channels,
    HIDDEN: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Write one of the left factor, the right factor and the output's gate, as axis 1 of the grid says."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    which = tl.program_id(1)
    inside = row < rows
    mean, scale = moments(x, row, inside, channels, BLOCK, CHUNK)
    values = tl.zeros((BLOCK, HIDDEN), tl.float32)
    gates = tl.zeros((BLOCK, HIDDEN), tl.float32)
    for start in range(0, channels, CHUNK):
        c = start + tl.arange(0, CHUNK)
        w, b = tl.load(norm_w + c, mask=c < channels, other=0.0), tl.load(norm_b + c, mask=c < channels, other=0.0)
        value = rows_of(x, row, c, inside[:, None] & (c < channels)[None, :], channels)
        z = ((value - mean[:, None]) * scale[:, None] * w[None, :] + b[None, :]).to(tl.float16)
        if which < 2:
            values += tl.dot(z, matrix(weights, which, c, channels, HIDDEN))
        gates += tl.dot(z, matrix(weights, 2 + which, c, channels, HIDDEN))
    gates = 1.0 / (1.0 + tl.exp(-gates))
    if which < 2:
        kept = tl.load(mask + row, mask=inside, other=0.0)
        place = flipped(row, per_batch, which, rows, HIDDEN)
        tl.store(pair + place, (values * gates * kept[:, None]).to(tl.float16), mask=inside[:, None])
    else:
        place = row[:, None] * HIDDEN + tl.arange(0, HIDDEN)[None, :]
        tl.store(gate + place, gates.to(tl.float16), mask=inside[:, None])


@triton.jit
def finish(
    o, gate, norm_w, norm_b, weights, out, rows, per_batch, channels,
    HIDDEN: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Normalise the product over the hidden channels, gate it, and write the output map of it."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    h = tl.arange(0, HIDDEN)
    value = tl.load(o + flipped(row, per_batch, 0, rows, HIDDEN), mask=inside[:, None], other=0.0).to(tl.float32)
    value -= (tl.sum(value, 1) / HIDDEN)[:, None]
    value *= (1.0 / tl.sqrt(tl.sum(value * value, 1) / HIDDEN + 1e-5))[:, None]
    value = value * tl.load(norm_w + h)[None, :] + tl.load(norm_b + h)[None, :]
    opened = tl.load(gate + row[:, None] * HIDDEN + h[None, :], mask=inside[:, None], other=0.0)
    value = (value * opened.to(tl.float32)).to(tl.float16)
    for start in range(0, channels, CHUNK):
        c = start + tl.arange(0, CHUNK)
        tile = tl.load(weights + c[None, :] * HIDDEN + h[:, None], mask=(c < channels)[None, :], other=0.0)
        there = inside[:, None] & (c < channels)[None, :]
        tl.store(out + row[:, None] * channels + c[None, :], tl.dot(value, tile), mask=there)


def custom_kernel(data):
    """Return the update [B, N, N, C] of `data`."""
    x, hidden = data["x"].contiguous(), data["out"].shape[1]
    batch, n, _, channels = x.shape
    rows, pairs = batch * n * n, n * n
    weights = torch.cat([data[name] for name in NAMES]).half()
    pair = torch.empty((2, batch * hidden, n, n), dtype=torch.float16, device=x.device)
    gate = torch.empty((rows, hidden), dtype=torch.float16, device=x.device)
    out = torch.empty_like(x)
    size = {"HIDDEN": hidden, "BLOCK": BLOCK, "CHUNK": CHUNK}
    blocks = triton.cdiv(rows, BLOCK)
    norm, mask = (data["norm_w"], data["norm_b"]), data["mask"].contiguous()
    project[(blocks, 3)](x, *norm, weights, mask, pair, gate, rows, pairs, channels, **size)
    o = torch.bmm(pair[0], pair[1].transpose(1, 2))
    norm, matrices = (data["out_norm_w"], data["out_norm_b"]), data["out"].half().contiguous()
    finish[(blocks,)](o, gate, *norm, matrices, out, rows, pairs, channels, **size)
    return out
