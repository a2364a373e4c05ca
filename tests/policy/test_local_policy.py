"""What the sampler promises: tokens by seed alone, log-probabilities that the trainer finds again."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from sia_flow.errors import SpecError, TrainingError
from sia_flow.policy.bases import base_digest
from sia_flow.policy.decoding import pick
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.noise import uniforms
from sia_flow.policy.rows import TokenRows, collate
from sia_flow.protocols import Sampler, SampleRequest
from tests.policy.world import PLAIN, moved, request_for

PROMPTS = [
    PLAIN,
    f"{PLAIN}\nFailed: exception",
    f"{PLAIN}\nExample:\ndef denoise(counts, seed):\n    return y\n",
    "?",
]


def mixed(count: int) -> list[SampleRequest]:
    return [request_for(PROMPTS[i % 4], seed=i, temperature=(1.0, 0.7, 1.5)[i % 3]) for i in range(count)]


def gap(policy: LocalPolicy, requests: list[SampleRequest]) -> float:
    """Largest difference between sampled and recomputed log-probabilities, of requests at one temperature."""
    completions = [c for group in policy.sample(requests) for c in group]
    with torch.no_grad():
        again = policy.logprobs(TokenRows.of(completions), temperature=requests[0].temperature)
    return max(abs(again[i, j].item() - value) for i, c in enumerate(completions) for j, value in enumerate(c.logprobs))


def test_is_a_sampler(policy: LocalPolicy) -> None:
    sampler: Sampler = policy
    groups = sampler.sample([request_for(n=3), request_for(PROMPTS[1], n=2, seed=4)])
    assert [len(group) for group in groups] == [3, 2]
    assert policy.tokenizer.decode(groups[1][0].prompt_ids) == f"<|bos|><|user|>{PROMPTS[1]}<|assistant|>"
    for completion in groups[0] + groups[1]:
        assert len(completion.logprobs) == len(completion.completion_ids)
        assert all(value <= 0 for value in completion.logprobs)


def test_no_requests_no_completions(policy: LocalPolicy) -> None:
    assert policy.sample([]) == []


def test_tokens_do_not_depend_on_the_batch(policy: LocalPolicy) -> None:
    requests = mixed(48)
    together = policy.sample(requests)
    alone = [policy.sample([request])[0] for request in requests]
    assert [g[0].completion_ids for g in together] == [g[0].completion_ids for g in alone]
    for one, other in zip(together, alone, strict=True):
        assert one[0].logprobs == pytest.approx(other[0].logprobs, abs=1e-5)


def test_tokens_do_not_depend_on_order_or_batch_size(base: Path, policy: LocalPolicy) -> None:
    requests = mixed(40)
    expected = [g[0].completion_ids for g in policy.sample(requests)]
    backwards = policy.sample(requests[::-1])[::-1]
    small = LocalPolicy.load(base, batch_rows=7).sample(requests)
    assert [g[0].completion_ids for g in backwards] == expected
    assert [g[0].completion_ids for g in small] == expected


def test_equal_requests_equal_bits(policy: LocalPolicy) -> None:
    assert policy.sample(mixed(12)) == policy.sample(mixed(12))


def test_threads_do_not_change_bits(policy: LocalPolicy) -> None:
    expected, before = policy.sample(mixed(12)), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert policy.sample(mixed(12)) == expected
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_more_samples_begin_with_the_fewer(policy: LocalPolicy) -> None:
    many, few = (policy.sample([request_for(n=n, seed=3)])[0] for n in (9, 4))
    assert [c.completion_ids for c in many[:4]] == [c.completion_ids for c in few]
    assert len({c.completion_ids for c in many}) > 1


def test_seeds_give_different_samples(policy: LocalPolicy) -> None:
    first, second = (policy.sample([request_for(n=16, seed=seed)])[0] for seed in (1, 2))
    assert [c.text for c in first] != [c.text for c in second]


def test_frequencies_are_the_reported_probabilities(policy: LocalPolicy) -> None:
    drawn = policy.sample([request_for(n=2000, seed=11)])[0]
    counts = Counter(c.completion_ids for c in drawn)
    share = {c.completion_ids: math.exp(sum(c.logprobs)) for c in drawn}
    for ids, count in counts.most_common(6):
        error = math.sqrt(share[ids] * (1 - share[ids]) / 2000)
        assert count / 2000 == pytest.approx(share[ids], abs=4.5 * error)


def test_greedy_takes_the_likeliest_token(policy: LocalPolicy) -> None:
    completion, again = policy.sample([request_for(n=2, temperature=0.0)])[0]
    assert completion.completion_ids == again.completion_ids
    assert set(completion.logprobs) == {0.0}
    with torch.no_grad():
        logits = policy.logits(TokenRows.of([completion]))
    assert tuple(logits[0].argmax(-1).tolist()) == completion.completion_ids


def test_stops_at_the_end_token_or_the_limit(policy: LocalPolicy) -> None:
    stopped = policy.sample([request_for(n=4)])[0]
    assert all(c.finish == "stop" and c.completion_ids[-1] == policy.tokenizer.eos_token_id for c in stopped)
    assert all(c.text.startswith("def denoise") and c.text.endswith("return y\n") for c in stopped)
    cut, short = policy.sample([request_for(max_tokens=3), request_for(max_tokens=1)])
    assert (len(cut[0].completion_ids), cut[0].finish) == (3, "length")
    assert len(short[0].completion_ids) == 1
    assert stopped[0].completion_ids[:3] == cut[0].completion_ids


@pytest.mark.parametrize(
    "bad",
    [{"n": 0}, {"max_tokens": 0}, {"max_tokens": 512}, {"temperature": -1.0}, {"temperature": math.nan}],
)
def test_a_request_out_of_range_is_refused(policy: LocalPolicy, bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        policy.sample([request_for(**bad)])


def test_a_prompt_longer_than_the_context_is_cut(policy: LocalPolicy) -> None:
    completion = policy.sample([request_for("z" * 2000, max_tokens=8)])[0][0]
    assert len(completion.prompt_ids) == 512 - 8
    assert policy.tokenizer.decode(completion.prompt_ids).endswith("zzz<|assistant|>")


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_trainer_recomputes_the_log_probabilities(
    policy: LocalPolicy, moved_policy: LocalPolicy, temperature: float
) -> None:
    requests = [request_for(PROMPTS[i % 4], n=8, seed=i, temperature=temperature) for i in range(8)]
    assert gap(policy, requests) <= 1e-5
    assert gap(moved_policy, requests) <= 1e-5
    moved_policy._merged = None
    assert gap(moved_policy, requests) <= 1e-5


def test_log_probabilities_are_padded_with_zero_and_carry_gradients(moved_policy: LocalPolicy) -> None:
    rows = TokenRows(((1, 3), (1, 3, 9, 4)), ((7, 8, 2), (9,)))
    values = moved_policy.logprobs(rows)
    assert values.shape == (2, 3)
    assert values[1, 1:].tolist() == [0.0, 0.0]
    values.sum().backward()
    grads = {n: p.grad for n, p in moved_policy.model.named_parameters() if p.requires_grad}
    assert grads
    assert all("lora_" in name and grad is not None for name, grad in grads.items())


def test_padding_does_not_change_log_probabilities(policy: LocalPolicy) -> None:
    long, short = ((1, 3, 40, 41, 4), (7, 8, 9, 2)), ((1, 4), (7, 2))
    both = policy.logprobs(TokenRows((long[0], short[0]), (long[1], short[1])))
    alone = policy.logprobs(TokenRows((short[0],), (short[1],)))
    assert torch.allclose(both[1, :2], alone[0], atol=1e-6)


def test_the_base_is_reached_through_the_adapter(policy: LocalPolicy, moved_policy: LocalPolicy) -> None:
    rows = TokenRows.of(policy.sample([request_for(n=4)])[0])
    with torch.no_grad():
        assert torch.equal(moved_policy.logprobs(rows, base=True), policy.logprobs(rows))
        assert torch.equal(policy.logprobs(rows, base=True), policy.logprobs(rows))
        assert not torch.allclose(moved_policy.logprobs(rows), policy.logprobs(rows), atol=1e-3)


def test_sampling_follows_an_adapter_that_moves(moved_policy: LocalPolicy) -> None:
    before, version = moved_policy.sample([request_for(n=8)]), moved_policy.version
    with torch.no_grad():
        for name, parameter in moved_policy.model.named_parameters():
            if "lora_B" in name:
                parameter.data.mul_(3.0)
    assert moved_policy.version != version
    assert moved_policy.sample([request_for(n=8)]) != before
    assert gap(moved_policy, [request_for(n=8)]) <= 1e-5
    moved_policy.refresh()
    assert gap(moved_policy, [request_for(n=8)]) <= 1e-5


def test_version_names_base_and_adapter(base: Path, policy: LocalPolicy) -> None:
    assert policy.version == base_digest(base)[:16]
    first, second = moved(base), moved(base, seed=1)
    assert first.version.startswith(f"{policy.version}+")
    assert first.version != second.version
    assert first.version == moved(base).version
    assert (policy.device, policy.dtype) == ("cpu", "float32")


def test_a_trainable_policy_needs_an_adapter(base: Path) -> None:
    with pytest.raises(TrainingError, match="needs an adapter"):
        LocalPolicy.load(base, trainable=True)


def test_a_damaged_base_is_refused(base: Path, tmp_path: Path) -> None:
    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(SpecError, match="cannot load the base model"):
        LocalPolicy.load(tmp_path)


def test_noise_is_a_stream_by_seed_and_index() -> None:
    assert np.array_equal(uniforms(3, 1, 5), uniforms(3, 1, 9)[:5])
    streams = np.stack([uniforms(seed, index, 64) for seed in range(20) for index in range(20)])
    assert len(np.unique(streams)) == streams.size
    assert abs(streams.mean() - 0.5) < 0.01
    assert uniforms((1 << 63) - 1, 0, 1).shape == (1,)


def test_pick_inverts_the_distribution() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), -math.inf, 0.0]]).expand(6, -1)
    noise = torch.tensor([0.0, 0.19, 0.21, 0.79, 0.81, 1 - 1e-16], dtype=torch.float64)
    tokens, logprobs = pick(logits, torch.ones(6), noise)
    assert tokens.tolist() == [0, 0, 1, 1, 3, 3]
    assert logprobs.exp().tolist() == pytest.approx([0.2, 0.2, 0.6, 0.6, 0.2, 0.2])


def test_rows_refuse_what_has_no_tokens() -> None:
    with pytest.raises(ValueError, match="at least one"):
        TokenRows(((1,),), ((),))
    with pytest.raises(ValueError, match="2 prompts for 1"):
        TokenRows(((1,), (2,)), ((1,),))


def test_collate_points_at_the_predicting_position() -> None:
    batch = collate(TokenRows(((5, 6), (5,)), ((7,), (8, 9, 2))), pad=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 0], [5, 8, 9, 2]]
    assert batch.targets.tolist() == [[7, 0, 0], [8, 9, 2]]
    assert batch.at[0, 0] == 1
    assert batch.at[1].tolist() == [0, 1, 2]
