"""The definition by plain loops, and that reference, ladder and torch agree with it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.trimul.cases import CHECKS, TIMED, Case, draw
from tests.tasks.trimul.kernels import LADDER, rung


def norm(row, weight, bias):
    mean = sum(row) / len(row)
    variance = sum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(variance + 1e-5) * w + b for value, w, b in zip(row, weight, bias, strict=True)]


def linear(matrix, row):
    return [sum(w * value for w, value in zip(weights, row, strict=True)) for weights in matrix]


def gated(value, gate, mask):
    return [v * mask / (1 + math.exp(-g)) for v, g in zip(value, gate, strict=True)]


def by_hand(data, b):
    d = {name: array.astype(float).tolist() for name, array in data.items()}
    n = len(d["x"][b])
    z = [[norm(d["x"][b][i][k], d["norm_w"], d["norm_b"]) for k in range(n)] for i in range(n)]

    def side(name, i, k):
        return gated(linear(d[name], z[i][k]), linear(d[f"{name}_gate"], z[i][k]), d["mask"][b][i][k])

    left = [[side("left", i, k) for k in range(n)] for i in range(n)]
    right = [[side("right", i, k) for k in range(n)] for i in range(n)]

    def pair(i, j):
        o = [sum(left[i][k][h] * right[j][k][h] for k in range(n)) for h in range(len(d["left"]))]
        o = gated(norm(o, d["out_norm_w"], d["out_norm_b"]), linear(d["out_gate"], z[i][j]), 1.0)
        return linear(d["out"], o)

    return [[pair(i, j) for j in range(n)] for i in range(n)]


def test_the_reference_is_the_definition():
    data = draw(Case(4, 2, 3, 2, masked=True), 1)
    assert data["mask"].min() == 0
    found = rung("reference")(data)
    assert found.dtype == np.float64
    for b in range(2):
        assert np.allclose(found[b], by_hand(data, b), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted({path.stem for path in LADDER.glob("*.py")} - {"reference"}))
def test_every_rung_of_the_ladder_is_right(name):
    kernel, reference = rung(name), rung("reference")
    for seed, case in enumerate(CHECKS):
        data = draw(case, seed)
        assert np.abs(kernel(data) - reference(data)).max() < 1e-4, case.name


def test_inputs_are_new_with_every_seed_and_their_mask_is_as_said():
    case = Case(20, 1, 4, 2, masked=True, distribution="cauchy")
    one, two, again = (draw(case, seed) for seed in (1, 2, 1))
    assert all(array.dtype == np.float32 and array.shape == case.shapes()[name] for name, array in one.items())
    assert all((one[name] != two[name]).any() for name in one)
    assert all((one[name] == again[name]).all() for name in one)
    assert 0.7 < one["mask"].mean() < 0.9
    assert np.abs(one["x"]).max() > 30
    assert draw(Case(20, 1, 4, 2), 1)["mask"].all()


def test_no_two_splits_share_a_timed_shape():
    names = [case.name for cases in TIMED.values() for case in cases]
    sides = [{case.n for case in cases} for cases in TIMED.values()]
    assert len(set(names)) == len(names)
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert all(case.channels != case.hidden for cases in (*TIMED.values(), CHECKS) for case in cases)
