"""The verbs, one by one."""

import math

import pytest
import torch

from sia_flow.errors import TrainingError
from sia_flow.training.admission import settle
from sia_flow.training.backend import open_backend
from sia_flow.training.batch import collate
from sia_flow.training.credit import credit
from sia_flow.training.types import PullConfig
from tests.training.world import Bandit, ToyPolicy, smooth_table


@pytest.fixture(params=["ppo", "grpo"])
def opened(request):
    """A policy, its backend and a credited batch."""
    policy = ToyPolicy()
    settings = settle(PullConfig(request.param))
    backend = open_backend(policy, settings)
    batch = collate(Bandit(policy, smooth_table()).collect(0, 1))
    return policy, backend, credit(batch, backend.measure(batch), settings)


def step(backend, credited):
    backend.forward_backward(credited, "clipped")
    return backend.optim_step(1e-2, 1.0)


def test_gradients_gather_until_a_step_takes_them(opened):
    policy, backend, credited = opened
    start = policy.version
    once = backend.forward_backward(credited, "clipped")
    assert backend.forward_backward(credited, "clipped") == once
    assert policy.version == start
    twice = backend.optim_step(1e-9, 1.0)
    assert twice == pytest.approx(2 * step(backend, credited), rel=1e-3)
    assert policy.version != start


def test_a_snapshot_brings_back_the_next_step_bit_by_bit(opened):
    policy, backend, credited = opened
    step(backend, credited)
    kept = {name: tensor.clone() for name, tensor in backend.snapshot().items()}
    norm = step(backend, credited)
    after = policy.version
    backend.forward_backward(credited, "clipped")
    backend.restore(kept)
    assert policy.version != after
    assert step(backend, credited) == norm
    assert policy.version == after


def test_a_gradient_that_broke_moves_nothing(opened):
    policy, backend, credited = opened
    start = policy.version
    backend.forward_backward(credited, "clipped")
    policy.adapter()[-1][1].grad.fill_(math.inf)
    assert not math.isfinite(backend.optim_step(1e-2, 1.0))
    assert policy.version == start


def test_a_step_that_leaves_a_broken_tensor_says_so(opened):
    policy, backend, credited = opened
    backend.forward_backward(credited, "clipped")
    with torch.no_grad():
        policy.adapter()[0][1].fill_(math.inf)
    assert math.isnan(backend.optim_step(1e-2, 1.0))


def test_a_snapshot_of_another_shape_is_refused(opened):
    _, backend, _ = opened
    kept = backend.snapshot()
    name = next(name for name in kept if name.startswith("adapter/"))
    with pytest.raises(TrainingError, match="does not fit the adapter"):
        backend.restore({**kept, name: torch.zeros(1)})
    with pytest.raises(TrainingError, match="does not fit the adapter"):
        backend.restore({})
