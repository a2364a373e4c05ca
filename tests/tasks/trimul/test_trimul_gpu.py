"""The GPU form as far as a CPU can show it: cases, reference, check and timing, on torch's CPU device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sia_flow.errors import TaskError
from tasks.trimul import gpu
from tasks.trimul.cases import Case
from tests.tasks.trimul.kernels import rung

SMALL = (Case(6, 2, 10, 8, masked=True), Case(9, 1, 12, 8, distribution="cauchy"))


def test_the_cases_are_in_the_published_ranges():
    assert len(gpu.CHECKS) == 18
    assert {case.n for case in gpu.CHECKS} >= {32, 1024}
    assert {case.channels for case in gpu.CHECKS} >= {128, 768}
    assert {case.batch for case in gpu.CHECKS} == {1, 2}
    assert {(case.masked, case.distribution) for case in gpu.CHECKS} == {
        (masked, d) for masked in (True, False) for d in ("normal", "cauchy")
    }
    timed = [(c.n, c.batch, c.channels, c.masked, c.distribution[0]) for c in gpu.TIMED]
    assert timed == [
        (256, 2, 128, False, "n"),
        (768, 1, 128, False, "c"),
        (256, 2, 384, True, "n"),
        (512, 1, 128, False, "n"),
        (1024, 1, 128, False, "c"),
        (768, 1, 384, True, "n"),
        (1024, 1, 384, False, "n"),
    ]
    assert all(case.hidden == 128 for case in (*gpu.CHECKS, *gpu.TIMED))


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_torch_reference_is_the_numpy_reference(case):
    data = gpu.draw(case, 3, "cpu")
    expected = rung("reference")({name: value.numpy() for name, value in data.items()})
    assert np.abs(gpu.reference(data).numpy() - expected).max() < 1e-4


def test_half_precision_of_the_ladder_is_within_the_tolerance():
    gpu.check(gpu.load(Path(gpu.__file__).parent / "ladder_gpu" / "half.py"), SMALL, "cpu", 0)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (lambda d: d["x"], "off by"),
        (lambda d: d["x"][..., :1], "must have shape"),
        (lambda d: gpu.reference(d) * float("nan"), "NaN"),
        (lambda d: gpu.reference(d).numpy(), "plain tensor"),
        (lambda d: gpu.reference(d).as_subclass(type("Lazy", (torch.Tensor,), {})), "plain tensor"),
    ],
)
def test_a_wrong_kernel_is_named_with_its_case(kernel, words):
    with pytest.raises(TaskError, match=f"case 2x6x10x8m on cpu: .*{words}"):
        gpu.check(kernel, SMALL, "cpu", 0)


def test_equal_infinities_are_no_fault():
    expected = torch.tensor([1.0, float("inf"), float("nan")])
    assert gpu.fault(expected.clone(), expected) is None
    assert "NaN" in (gpu.fault(torch.tensor([1.0, float("nan"), float("inf")]), expected) or "")


def test_every_repeat_is_checked_on_new_inputs():
    kept = []

    def replays(data):
        kept.append(gpu.reference(data))
        return kept[0]

    with pytest.raises(TaskError, match="repeat -1: off by"):
        gpu.measure(replays, SMALL[0], "cpu", 0)
    timed = gpu.measure(gpu.reference, SMALL[0], "cpu", 0, repeats=3)
    assert timed.repeats == 3
    assert 0 < timed.least <= timed.mean


def test_a_kernel_that_spoils_its_inputs_is_not_let_off_by_it():
    def spoils(data):
        found = gpu.reference(data)
        data["x"].zero_()
        return found

    assert gpu.measure(spoils, SMALL[0], "cpu", 0, repeats=2).repeats == 2


def test_the_reward_is_1500_over_the_geometric_mean():
    timed = [gpu.Timed("a", 1000.0, 900.0, 3), gpu.Timed("b", 4000.0, 900.0, 3)]
    assert gpu.reward(timed) == pytest.approx(0.75)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_ladder_is_right_on_every_case_of_the_device():
    for _, kernel in gpu.ladder():
        gpu.check(kernel, gpu.CHECKS, "cuda", 0)
