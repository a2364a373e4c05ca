import pytest
import torch

from sia_flow.errors import TrainingError
from sia_flow.training.batch import collate
from sia_flow.training.forward import backward, measure
from sia_flow.training.losses import Stream, clipped
from sia_flow.training.types import Episode
from tests.training.world import PROMPTS, ToyPolicy


@pytest.fixture(scope="module")
def policy():
    return shaken(ToyPolicy())


def shaken(policy: ToyPolicy) -> ToyPolicy:
    """Move the adapter away from zero, so that policy and base differ."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in policy.adapter():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
    return policy


def episodes(policy, heat=1.0, samples=6):
    turns = [turn for i, p in enumerate(PROMPTS) for turn in policy.sample(p, samples, 7 + i, 4, heat)]
    return [Episode(f"g{i % 2}", (turn,), float(i), i % 3 > 0) for i, turn in enumerate(turns)]


def adapter_gradient(policy):
    return torch.cat([p.grad.flatten() for _, p in policy.adapter()])


@pytest.mark.parametrize("heat", [1.0, 0.7])
def test_recomputed_logprobs_are_those_of_the_sampler(policy, heat):
    batch = collate(episodes(policy, heat))
    measured = measure(policy.model, batch, 100)
    assert torch.allclose(measured.logprobs, batch.old, atol=1e-5)
    assert (measured.logprobs - measured.base).abs().max() > 0.1


def test_divergence_and_entropy_are_exact(policy):
    (turn,) = policy.sample(PROMPTS[0], 1, 3, length=1)
    batch = collate([Episode("g", (turn,), 1.0, valid=True)])
    measured = measure(policy.model, batch, 100)
    with torch.no_grad():
        ids = torch.tensor([turn.prompt_ids])
        log_p = torch.log_softmax(policy.model(input_ids=ids).logits[0, -1], -1)
        with policy.model.disable_adapter():
            log_q = torch.log_softmax(policy.model(input_ids=ids).logits[0, -1], -1)
    assert measured.kl == pytest.approx(float((log_p.exp() * (log_p - log_q)).sum()), abs=1e-5)
    assert measured.entropy == pytest.approx(float(-(log_p.exp() * log_p).sum()), abs=1e-5)


def test_chunks_change_neither_measures_nor_the_gradient(policy):
    batch = collate(episodes(policy))
    whole, pieces = measure(policy.model, batch, 100), measure(policy.model, batch, 5)
    assert torch.allclose(whole.logprobs, pieces.logprobs, atol=1e-6)
    assert pieces.kl == pytest.approx(whole.kl, abs=1e-6)
    advantage = torch.linspace(-1, 1, len(batch.old))
    stream = Stream(
        advantage,
        batch.old - 0.1,
        whole.base,
        batch.token_row,
        batch.token_episode,
        torch.empty((0, 2)),
        kl=0.1,
    )
    gradients = []
    for rows in (100, 5):
        policy.model.zero_grad()
        loss, _ = backward(policy.model, batch, rows, lambda lp: clipped(lp, stream))
        gradients.append((loss, adapter_gradient(policy)))
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=1e-6)
    assert gradients[0][1].abs().max() > 1e-3
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-6)


def test_equal_calls_are_computed_once_and_counted_each(policy):
    one, *others = policy.sample(PROMPTS[0], 8, 5, 4)
    two = next(turn for turn in others if turn.completion_ids != one.completion_ids)
    cooler = one.model_copy(update={"temperature": 0.5})
    turns = (one, two, one, cooler, two, one)
    batch = collate([Episode("g", (turn,), float(i), True) for i, turn in enumerate(turns)])
    assert len(batch.tokens) == 3
    each = [measure(policy.model, collate([Episode("g", (turn,), 0.0, True)]), 9) for turn in turns]
    measured = measure(policy.model, batch, 9)
    assert torch.allclose(measured.logprobs, torch.cat([m.logprobs for m in each]), atol=1e-6)
    assert measured.kl == pytest.approx(sum(m.kl for m in each) / 6, abs=1e-5)
    kept, tokens = batch.keep(torch.tensor([False, True, False, True, True, False]))
    assert torch.allclose(measure(policy.model, kept, 9).logprobs, measured.logprobs[tokens], atol=1e-6)


def test_the_gradient_of_repeated_calls_is_that_of_their_sum(policy):
    turns = policy.sample(PROMPTS[0], 3, 5, 4)
    weights = (1.0, -2.0, 0.5, 3.0)
    batch = collate([Episode("g", (turn,), 0.0, True) for turn in (*turns, turns[0])])
    credit = torch.tensor(weights)[batch.token_episode]
    policy.model.zero_grad()
    backward(policy.model, batch, 9, lambda lp: (lp * credit).sum())
    together = adapter_gradient(policy)
    policy.model.zero_grad()
    for turn, weight in zip((*turns, turns[0]), weights, strict=True):
        backward(policy.model, collate([Episode("g", (turn,), 0.0, True)]), 9, lambda lp, w=weight: w * lp.sum())
    assert together.norm() > 1
    assert (together - adapter_gradient(policy)).norm() < 1e-4 * together.norm()


def test_rows_of_several_turns_share_their_episode(policy):
    first, second, third = policy.sample(PROMPTS[1], 3, 11, 4)
    batch = collate([Episode("a", (first, second), 1.0, True), Episode("b", (third,), 0.0, False)])
    assert batch.row_episode.tolist() == [0, 0, 1]
    assert torch.equal(batch.old, torch.tensor([*first.logprobs, *second.logprobs, *third.logprobs]))
    kept, tokens = batch.keep(torch.tensor([False, True]))
    assert kept.row_episode.tolist() == [0]
    assert torch.equal(kept.old, torch.tensor(third.logprobs))
    assert int(tokens.sum()) == len(third.logprobs)
    assert batch.valid_rate == 0.5


def test_greedy_turns_and_episodes_without_turns_give_no_row(policy):
    (turn,) = policy.sample(PROMPTS[0], 1, 3)
    greedy = turn.model_copy(update={"temperature": 0.0})
    batch = collate([Episode("g", (greedy, turn), 1.0, True), Episode("g", (), 0.0, False)])
    assert len(batch.tokens) == 1
    assert batch.rewards.tolist() == [1.0, 0.0]
    with pytest.raises(TrainingError, match="temperature above 0"):
        collate([Episode("g", (greedy,), 1.0, True)])


def test_records_that_cannot_be_true_are_refused(policy):
    (turn,) = policy.sample(PROMPTS[0], 1, 3)
    with pytest.raises(TrainingError, match="no episode"):
        collate([])
    with pytest.raises(TrainingError, match="reward nan"):
        collate([Episode("g", (turn,), float("nan"), True)])
    with pytest.raises(TrainingError, match="log-probabilities"):
        collate([Episode("g", (turn.model_copy(update={"logprobs": (0.0,) * 9}),), 1.0, True)])
    broken = turn.model_copy(update={"logprobs": (float("nan"),) * len(turn.logprobs)})
    with pytest.raises(TrainingError, match="not finite"):
        collate([Episode("g", (broken,), 1.0, True)])
