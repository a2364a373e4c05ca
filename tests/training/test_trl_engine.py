"""The TRL engine against our own, on the same credited batches."""

from dataclasses import replace

import pytest
import torch

from sia_flow.errors import TrainingError
from sia_flow.training.admission import settle
from sia_flow.training.algorithms import ALGORITHMS
from sia_flow.training.backend import open_backend
from sia_flow.training.batch import collate
from sia_flow.training.credit import credit
from sia_flow.training.trainer import pull
from sia_flow.training.types import Episode, PullConfig
from tests.training.world import PROMPTS, Bandit, ToyPolicy, smooth_table

pytestmark = pytest.mark.slow
COVERED = [name for name, algorithm in ALGORITHMS.items() if algorithm.critic is None]


def moved() -> ToyPolicy:
    """Return a policy whose adapter is not zero, so that policy and base differ."""
    policy, noise = ToyPolicy(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in policy.adapter():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    return policy


def episodes(policy, heat=1.0, calls=1):
    """Return 12 episodes for each prompt, of `calls` model calls, rewarded by the first token."""
    table = smooth_table()
    turns = [policy.sample(prompt, 12 * calls, 3 + i, 4, heat) for i, prompt in enumerate(PROMPTS)]
    return [
        Episode(f"p{i}", tuple(found[k::12]), float(table[i, found[k].completion_ids[0]]), True)
        for i, found in enumerate(turns)
        for k in range(12)
    ]


def two_steps(plan, heat=1.0, calls=1):
    """Take two steps on one batch, of a policy that has moved on since; return the adapter and what was told."""
    policy = moved()
    settings = settle(plan)
    batch = collate(episodes(policy, heat, calls))
    noise = torch.Generator().manual_seed(5)
    batch = replace(batch, old=batch.old + 0.2 * torch.randn(batch.old.shape, generator=noise))
    backend = open_backend(policy, settings)
    credited = credit(batch, backend.measure(batch), settings)
    told = []
    for _ in range(2):
        figures = backend.forward_backward(credited, settings.algorithm.loss)
        told.append([*figures.values(), backend.optim_step(settings.learning_rate, 1.0)])
    assert not policy.model.training
    return dict(policy.adapter()), told


def difference(one, two):
    assert one.keys() == two.keys()
    return max(float((tensor - two[name]).detach().abs().max()) for name, tensor in one.items())


@pytest.mark.parametrize("algorithm", COVERED)
def test_both_engines_take_the_same_two_steps(algorithm):
    ours, told = two_steps(PullConfig(algorithm))
    theirs, said = two_steps(PullConfig(algorithm, engine="trl"))
    pieces, _ = two_steps(PullConfig(algorithm, engine="trl", micro_batch=5))
    assert difference(ours, dict(moved().adapter())) > 1e-3
    assert difference(ours, theirs) < 1e-5
    assert difference(ours, pieces) < 1e-5
    assert torch.allclose(torch.tensor(told), torch.tensor(said), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("heat", "calls"), [(0.7, 1), (1.0, 2)], ids=["cooler", "two calls"])
def test_they_agree_at_another_temperature_and_over_several_calls(heat, calls):
    ours, _ = two_steps(PullConfig("grpo", kl=0.1), heat, calls)
    theirs, _ = two_steps(PullConfig("grpo", kl=0.1, engine="trl"), heat, calls)
    assert difference(ours, theirs) < 1e-5


@pytest.mark.parametrize("algorithm", ["grpo", "dpo"])
def test_a_whole_pull_ends_with_the_same_adapter(tmp_path, algorithm):
    def run(engine):
        policy = ToyPolicy()
        plan = PullConfig(algorithm, engine, iterations=2)
        return policy, pull(policy, Bandit(policy, smooth_table()).collect, plan, tmp_path / engine)

    (ours, one), (theirs, two) = run("peft"), run("trl")
    assert difference(dict(ours.adapter()), dict(theirs.adapter())) < 1e-4
    assert one.steps[0]["loss"] == pytest.approx(two.steps[0]["loss"], abs=1e-5)
    assert ours.base_bytes() == theirs.base_bytes()
    saved = [{f.name for f in update.adapter.iterdir()} for update in (one, two)]
    assert saved[0] == saved[1]


def test_what_it_cannot_train_is_refused_before_any_step(tmp_path):
    policy = moved()
    start = policy.version
    warm, cool = episodes(policy), episodes(policy, 0.7)

    def refused(algorithm, found, match):
        with pytest.raises(TrainingError, match=match):
            pull(policy, lambda *_: found, PullConfig(algorithm, "trl"), tmp_path / match.replace(" ", "-"))
        assert policy.version == start

    refused("ppo", None, "TRL dropped PPO")
    refused("grpo", [*warm, *cool], "at one temperature")
    refused("best_of_n_bc", cool, "trains best_of_n_bc at temperature 1")
    refused("dpo", cool, "trains dpo at temperature 1")
    refused("dpo", episodes(policy, calls=2), "compares single model calls")


def test_a_pull_cannot_change_its_temperature():
    policy = moved()
    settings = settle(PullConfig(engine="trl"))
    backend = open_backend(policy, settings)
    warm, cool = (collate(episodes(policy, heat)) for heat in (1.0, 0.5))
    backend.forward_backward(credit(warm, backend.measure(warm), settings), "clipped")
    with pytest.raises(TrainingError, match=r"began this pull at temperature 1 and cannot go on at 0\.5"):
        backend.forward_backward(credit(cool, backend.measure(cool), settings), "clipped")
